package schemas

// unmarked returns what is wrong with a record that has no attribute of a CloudEvent in its headers, as far as its value tells who
// wrote it.
func unmarked(value []byte) error {
	e := &FieldError{
		Field: "ce_specversion", Problem: "is missing, as are all CloudEvents headers", Reason: ReasonMalformed,
		Fix: "publish with package producer or with CloudEvents headers, or declare the format of the tool that writes the topic",
	}
	text := string(value)
	if framed(text) {
		return frameError()
	}
	members := map[string]bool{}
	if err := WalkObject(text, func(name string, _ JSON) error {
		members[name] = true
		return nil
	}); err != nil {
		return e
	}
	has := func(names ...string) bool {
		for _, n := range names {
			if !members[n] {
				return false
			}
		}
		return true
	}
	format := Format("")
	switch {
	case has("specversion"):
		e.Problem = "is missing from the headers, and the value is a CloudEvent in JSON"
		e.Fix = "write the header content-type: application/cloudevents+json"
	case has("isDdl"), has("mysqlType"):
		format = FormatCanal
	case has("op", "source"), has("schema", "payload"):
		format = FormatDebezium
	case has("__op"), has("__deleted"):
		format = FormatDebeziumFlat
	case has("database", "table", "type", "data"):
		format = FormatMaxwell
	}
	if format != "" {
		e.Problem = "is missing, and the value has the members of the format " + string(format)
		e.Fix = "declare format: " + string(format) + " in the dataset"
	}
	return e
}
