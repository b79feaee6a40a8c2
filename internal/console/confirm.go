package console

import (
	"net/http"
)

// confirmation is the page between a button and what it does: it shows what would happen, and asks for a reason.
type confirmation struct {
	// Path takes the form, with the fields of what was asked and sure=1.
	Path     string
	Question string
	Facts    []fact
	// Samples are a few of what it would touch.
	Samples []fact
	Warning string
	Button  string
	Danger  bool
	// Typed must be typed; "" asks for nothing. Wrong says that something else was.
	Typed  string
	Wrong  string
	Fields []fact
	// Limits: the form asks for the limits of a job.
	Limits bool
	// Reason was given with the dry run already. Unlogged: the audit log keeps none.
	Reason   string
	Unlogged bool
}

// fact is one line of a list of names and values.
type fact struct{ Name, Value string }

// field is a value of the form.
func (v *visit) field(name string) string { return v.PostFormValue(name) }

// sure reports whether the form is a confirmation's. One whose typed word differs is not, and ask asks again.
func (v *visit) sure(typed string) bool {
	if v.field("sure") != "1" {
		return false
	}
	if typed != "" && v.field("typed") != typed {
		v.wrong = v.text("Nothing was done: type %s to confirm.", typed)
	}
	return v.wrong == ""
}

// ask is the outcome that shows a confirmation. The named fields of the form are sent again with it.
func (v *visit) ask(c confirmation, fields ...string) *outcome {
	for _, name := range fields {
		for _, value := range v.PostForm[name] {
			if value != "" {
				c.Fields = append(c.Fields, fact{name, value})
			}
		}
	}
	c.Reason, c.Wrong = v.field("reason"), v.wrong
	out := &outcome{name: "confirm", data: c}
	if c.Wrong != "" {
		out.status = http.StatusUnprocessableEntity
	}
	return out
}

// unknown is the error of a form that asks for nothing that the path does.
func (v *visit) unknown() error {
	return &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("The form does not say what to do.")}
}
