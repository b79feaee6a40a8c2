package draft

import (
	"slices"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// members are the members of a JSON object.
type members map[string]schemas.JSON

func membersOf(text string) (members, error) {
	m := members{}
	err := schemas.WalkObject(text, func(name string, v schemas.JSON) error {
		m[name] = v
		return nil
	})
	return m, err
}

// object returns the members of a member that is an object; nil otherwise.
func (m members) object(name string) members {
	if m[name].Kind != schemas.JSONObject {
		return nil
	}
	inner, err := membersOf(m[name].Text)
	if err != nil {
		return nil
	}
	return inner
}

func (m members) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return m[name].Kind == 0 })
}

// texts lists an array of texts, or of objects by one of their members.
func (m members) texts(name, member string) (list []string) {
	if m[name].Kind != schemas.JSONArray {
		return nil
	}
	_ = schemas.WalkArray(m[name].Text, func(v schemas.JSON) error { // it was read before
		if v.Kind == schemas.JSONString {
			list = append(list, v.Text)
		} else if inner, err := membersOf(v.Text); v.Kind == schemas.JSONObject && err == nil {
			list = append(list, inner[member].Text)
		}
		return nil
	})
	return list
}

// recognise returns the rows of a record; none for what is no row.
func recognise(rec *schemas.Record, m members) []row {
	schema := m.object("schema")
	if payload := m.object("payload"); payload != nil && m.has("schema", "payload") {
		m = payload
	}
	switch {
	case m.has("op", "source") && (m.has("after") || m.has("before")):
		return debeziumRow(rec, m, schema)
	case m.has("database", "table", "type", "isDdl"):
		return canalRows(m)
	case m.has("database", "table", "type", "data", "ts") && m["data"].Kind == schemas.JSONObject:
		return maxwellRow(rec, m)
	}
	if m.has("ddl", "databaseName") {
		return nil // a schema change
	}
	return flatRow(rec, m, schema)
}

func debeziumRow(rec *schemas.Record, m, schema members) []row {
	source := m.object("source")
	r := row{from: Debezium, database: source["db"].Text, table: source["table"].Text, key: connectKey(rec.Key)}
	if s := source["schema"]; s.Kind == schemas.JSONString && s.Text != "" {
		r.database = s.Text // PostgreSQL
	}
	image := "after"
	if m["after"].Kind != schemas.JSONObject {
		image = "before"
	}
	if m[image].Kind != schemas.JSONObject || r.table == "" {
		return nil
	}
	r.object = m[image].Text
	r.partial = image == "before" // it may lack what the log does not have
	r.types = connectTypes(fieldOf(schema, image))
	return []row{r}
}

// flatRow is a row of Debezium's transform: bare, with members or headers that begin with __, or with a schema of Connect.
func flatRow(rec *schemas.Record, m, schema members) []row {
	r := row{from: DebeziumFlat, database: m["__db"].Text, table: m["__table"].Text, key: connectKey(rec.Key), types: connectTypes(schema)}
	marked := false
	for name := range m {
		marked = marked || strings.HasPrefix(name, "__")
	}
	for _, h := range rec.Headers {
		value := strings.Trim(string(h.Value), `"`)
		switch h.Key {
		case "__db", "__source_db":
			r.database, marked = value, true
		case "__table", "__source_table":
			r.table, marked = value, true
		case "__op", "__deleted", "__debezium.context.connectorName":
			marked = true
		}
	}
	name, isRow := strings.CutSuffix(schema["name"].Text, ".Value")
	if parts := strings.Split(name, "."); isRow && len(parts) >= 3 && r.table == "" {
		r.database, r.table = parts[len(parts)-2], parts[len(parts)-1]
	}
	if !marked && !isRow || len(r.key) == 0 {
		return nil
	}
	var object strings.Builder
	object.WriteByte('{')
	_ = schemas.WalkObject(rowText(rec), func(name string, v schemas.JSON) error { // it was read before
		if object.Len() > 1 {
			object.WriteByte(',')
		}
		object.WriteString(quoteJSON(name) + ":")
		if v.Kind == schemas.JSONString {
			object.WriteString(quoteJSON(v.Text))
		} else {
			object.WriteString(v.Text)
		}
		return nil
	})
	object.WriteByte('}')
	r.object = object.String()
	return []row{r}
}

// rowText is a bare row, without the envelope of Connect's schema.
func rowText(rec *schemas.Record) string {
	m, err := membersOf(string(rec.Value))
	if err == nil && m["payload"].Kind == schemas.JSONObject && m.has("schema") {
		return m["payload"].Text
	}
	return string(rec.Value)
}

// connectKey lists the columns of a record's key.
func connectKey(key []byte) (names []string) {
	m, err := membersOf(string(key))
	if err != nil {
		return nil
	}
	text := string(key)
	if m["payload"].Kind == schemas.JSONObject && m.has("schema") {
		text = m["payload"].Text
	}
	_ = schemas.WalkObject(text, func(name string, _ schemas.JSON) error { // it was read before
		if !strings.HasPrefix(name, "__") {
			names = append(names, name)
		}
		return nil
	})
	return names
}

func canalRows(m members) []row {
	if m["isDdl"].Text == "true" || m["data"].Kind != schemas.JSONArray {
		return nil
	}
	r := row{from: Canal, database: m["database"].Text, table: m["table"].Text, key: m.texts("pkNames", ""), types: map[string]schemas.ColumnType{}, texts: map[string]string{}}
	for name, v := range m.object("mysqlType") {
		r.types[name], _ = schemas.ParseColumnType(v.Text)
		r.texts[name] = v.Text
	}
	r.partial = m["type"].Text == "DELETE"
	var rows []row
	_ = schemas.WalkArray(m["data"].Text, func(v schemas.JSON) error { // it was read before
		one := r
		one.object = v.Text
		rows = append(rows, one)
		return nil
	})
	return rows
}

func maxwellRow(rec *schemas.Record, m members) []row {
	switch m["type"].Text {
	case "insert", "update", "delete", "bootstrap-insert":
	default:
		return nil
	}
	return []row{{
		from: Maxwell, database: m["database"].Text, table: m["table"].Text, object: m["data"].Text, key: maxwellKey(rec.Key),
	}}
}

// maxwellKey reads {"database":…,"table":…,"pk.id":1} and ["shop","customers",[{"id":1}]].
func maxwellKey(key []byte) (names []string) {
	v, err := schemas.ReadJSON(string(key))
	if err != nil {
		return nil
	}
	switch v.Kind {
	case schemas.JSONObject:
		_ = schemas.WalkObject(v.Text, func(name string, _ schemas.JSON) error { // it was read before
			if column, ok := strings.CutPrefix(name, "pk."); ok {
				names = append(names, column)
			}
			return nil
		})
	case schemas.JSONArray:
		_ = schemas.WalkArray(v.Text, func(part schemas.JSON) error { // as above
			if part.Kind != schemas.JSONArray {
				return nil
			}
			return schemas.WalkArray(part.Text, func(column schemas.JSON) error {
				if column.Kind != schemas.JSONObject {
					return nil
				}
				return schemas.WalkObject(column.Text, func(name string, _ schemas.JSON) error {
					names = append(names, name)
					return nil
				})
			})
		})
	default:
	}
	return names
}
