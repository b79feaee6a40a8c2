package compat

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// Answer is what a comparison comes to.
type Answer string

// The answers, the better first.
const (
	// Safe: no event and no reader of rows is hurt.
	Safe Answer = "safe"
	// Unknown: something differs that is not understood here; a person has to look.
	Unknown Answer = "unknown"
	// Breaking: earlier events may be refused, or readers lose a column.
	Breaking Answer = "breaking"
)

// Finding is one difference.
type Finding struct {
	// Dataset is empty when two schemas are compared.
	Dataset string `json:"dataset,omitempty"`
	// Path is a JSON pointer into the schema, or a field of the declaration such as "cache.key".
	Path string `json:"path"`
	// Answer is Safe for what one should know all the same.
	Answer Answer `json:"answer"`
	Reason string `json:"reason"`
}

// Report is the result of a comparison.
type Report struct {
	// Answer is the worst of the findings; Safe without any.
	Answer   Answer    `json:"answer"`
	Findings []Finding `json:"findings"`
}

// Config of a comparison. The zero value works.
type Config struct {
	// Strict: earlier events may carry any property that their schema does not forbid. Else a property that the newer
	// schema declares for the first time is taken to be absent from them.
	Strict bool
}

// Schemas compares two schemas.
func Schemas(older, newer *schemas.Schema, cfg Config) Report {
	w := &walk{cfg: cfg}
	w.schemas(older, newer)
	return w.report()
}

func (w *walk) schemas(older, newer *schemas.Schema) {
	w.older, w.newer = older.Document(), newer.Document()
	w.node("", w.older, w.newer)
	w.columns(older.Properties(), newer.Properties())
}

// report puts the worst first.
func (w *walk) report() Report {
	r := Report{Answer: Safe, Findings: w.findings}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return rank(b.Answer) - rank(a.Answer) })
	if len(r.Findings) > 0 {
		r.Answer = r.Findings[0].Answer
	}
	return r
}

func rank(a Answer) int { return slices.Index([]Answer{Safe, Unknown, Breaking}, a) }

// columns compares what readers of the replica table get.
func (w *walk) columns(older, newer []schemas.Property) {
	for _, a := range older {
		path := "/properties/" + escape(a.Name)
		i := slices.IndexFunc(newer, func(p schemas.Property) bool { return p.Name == a.Name })
		if i < 0 {
			w.add(Breaking, path, "is removed: its column is not filled any more")
			continue
		}
		was, is := kindText(a), kindText(newer[i])
		switch b := newer[i]; {
		case a.Kind != b.Kind || a.Unsigned != b.Unsigned:
			w.add(Breaking, path, "its column was "+was+" and would be "+is+": use a new property, or a new table and a replay")
		case a.Kind == schemas.KindDecimal && (a.Precision-a.Scale > b.Precision-b.Scale || a.Scale > b.Scale):
			w.add(Breaking, path+"/x-decimal", was+" becomes "+is+", which cannot hold every earlier value")
		case a.Kind == schemas.KindDecimal && was != is:
			w.add(Safe, path+"/x-decimal", was+" becomes "+is)
		}
	}
}

func kindText(p schemas.Property) string {
	switch p.Kind {
	case schemas.KindString:
		return "text"
	case schemas.KindInteger:
		if p.Unsigned {
			return "BIGINT UNSIGNED"
		}
		return "BIGINT"
	case schemas.KindNumber:
		return "DOUBLE"
	case schemas.KindDecimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", p.Precision, p.Scale)
	case schemas.KindDateTime:
		return "DATETIME"
	case schemas.KindDate:
		return "DATE"
	case schemas.KindBoolean:
		return "TINYINT(1)"
	case schemas.KindJSON:
		return "JSON"
	}
	return "unknown"
}

// walk compares node by node and collects findings.
type walk struct {
	cfg          Config
	dataset      string
	older, newer map[string]any
	// wasClosed and isClosed: the declaration refuses undeclared properties of the record, whatever its schema says.
	wasClosed, isClosed bool
	findings            []Finding
}

// add notes a finding; of two on one path the first stays unless the second is worse.
func (w *walk) add(a Answer, path, reason string) {
	for i, f := range w.findings {
		if f.Dataset == w.dataset && f.Path == path {
			if rank(a) > rank(f.Answer) {
				w.findings[i].Answer, w.findings[i].Reason = a, reason
			}
			return
		}
	}
	w.findings = append(w.findings, Finding{Dataset: w.dataset, Path: path, Answer: a, Reason: reason})
}

// escape makes a name part of a JSON pointer.
func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
