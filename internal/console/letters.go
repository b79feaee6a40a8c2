package console

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

// letterRows is how many dead letters a page has.
const letterRows = 100

func lettersScreen() *screen {
	return &screen{path: "/deadletters", name: "deadletters", title: "Dead letters", nav: true, least: access.Viewer, every: 3 * time.Second, load: loadLetters, act: actLetters}
}

func letterScreen() *screen {
	return &screen{path: "/deadletter", name: "deadletter", title: "Dead letter", least: access.Viewer, load: loadLetter, act: actLetter}
}

// lettersPage shows groups, and the dead letters of a filter.
type lettersPage struct {
	Datasets []api.DatasetState
	Groups   []letterGroup
	Letters  []api.Letter
	States   []string
	State    string
	Next     string
	// Filtered: the address has a filter, which an action can mean as a whole.
	Filtered bool
}

type letterGroup struct {
	api.LetterGroup

	// Query is the filter that means this group, and Path the page with it.
	Query url.Values
	Path  string
}

// letterFilters are the values of an address that choose dead letters.
func letterFilters() []string {
	return []string{"dataset", "key", "reason", "source", "topic", "partition", "from_offset", "to_offset", "errno", "detail", "since"}
}

func loadLetters(v *visit) (any, error) {
	sets, err := v.datasets()
	if err != nil {
		return nil, err
	}
	p := lettersPage{Datasets: sets, States: []string{"open", "superseded", "redriven", "discarded"}, State: v.param("state")}
	if !v.URL.Query().Has("state") {
		p.State = "open"
	}
	var groups struct{ Items []api.LetterGroup }
	if err := v.get("/v1/deadletters/groups", &groups); err != nil {
		return nil, err
	}
	for _, g := range groups.Items {
		errno := ""
		if g.Errno != 0 {
			errno = strconv.Itoa(g.Errno)
		}
		pairs := []string{"dataset", g.Dataset, "reason", g.Reason, "errno", errno, "detail", g.Detail}
		p.Groups = append(p.Groups, letterGroup{g, query(pairs...), link("/deadletters", pairs...)})
	}
	q := []string{"state", p.State, "after", v.param("after"), "limit", strconv.Itoa(letterRows)}
	for _, name := range letterFilters() {
		if v.param(name) != "" {
			q = append(q, name, v.param(name))
			p.Filtered = true
		}
	}
	var found struct {
		Items []api.Letter
		Next  string
	}
	if err := v.get("/v1/deadletters", &found, q...); err != nil {
		return nil, err
	}
	p.Letters, p.Next = found.Items, found.Next
	return p, nil
}

// Export lists the dead letters.
func (p lettersPage) Export() (items any, header []string, rows [][]string) {
	for i := range p.Letters {
		l := &p.Letters[i]
		rows = append(rows, []string{l.ID, l.Dataset, l.Key, strconv.FormatInt(l.Version, 10), l.Op, l.Reason, l.Detail, l.State, l.Created.UTC().Format(time.RFC3339)})
	}
	return p.Letters, []string{"id", "dataset", "key", "version", "op", "reason", "detail", "state", "created"}, rows
}

// letterChoice is what a form means: the dead letters that were marked, or all of its filter.
func letterChoice(v *visit, sure bool) (map[string]any, error) {
	c := map[string]any{"dry_run": !sure, "why": v.field("reason")}
	if !sure && v.field("reason") == "" {
		c["why"] = "dry run"
	}
	if ids := v.PostForm["id"]; len(ids) > 0 {
		c["ids"] = ids
		return c, nil
	}
	if v.field("all") == "" {
		return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("No dead letter is marked.")}
	}
	c["all"] = true
	for _, name := range letterFilters() {
		value := v.field(name)
		if value == "" {
			continue
		}
		delete(c, "all")
		c[name] = value
		if name == "from_offset" || name == "to_offset" || name == "errno" {
			if _, err := strconv.ParseUint(value, 10, 63); err != nil {
				return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("%s is not a number.", name)}
			}
			c[name] = json.Number(value)
		}
	}
	return c, nil
}

func actLetters(v *visit) (*outcome, error) {
	if err := v.ParseForm(); err != nil {
		return nil, err
	}
	do := v.field("do")
	if do != "redrive" && do != "discard" {
		return nil, v.unknown()
	}
	typed := ""
	if do == "discard" {
		typed = "discard"
	}
	sure := v.sure(typed)
	choice, err := letterChoice(v, sure)
	if err != nil {
		return nil, err
	}
	c := confirmation{Path: "/deadletters"}
	if do == "redrive" {
		err = redrive(v, choice, &c)
	} else {
		err = discard(v, choice, &c)
	}
	if err != nil {
		return nil, err
	}
	if sure {
		return &outcome{to: withDone(v.field("back"), map[string]string{"redrive": "redriven", "discard": "discarded"}[do])}, nil
	}
	if len(v.PostForm["id"]) == 0 {
		c.Facts = append(filterFacts(v), c.Facts...)
	}
	return v.ask(c, append(letterFilters(), "do", "id", "all")...), nil
}

// filterFacts are what a form's filter means, for the question.
func filterFacts(v *visit) []fact {
	var out []fact
	for _, name := range letterFilters() {
		if v.field(name) != "" {
			out = append(out, fact{name, v.field(name)})
		}
	}
	return out
}

func redrive(v *visit, choice map[string]any, c *confirmation) error {
	var r api.Redrive
	if err := v.post("/v1/deadletters/redrives", choice, &r); err != nil {
		return err
	}
	c.Question, c.Button = v.text("Apply these dead letters again?"), v.text("Redrive")
	for _, outcome := range []struct{ name, text string }{
		{"applied", "Would be applied"},
		{"stale", "Are stale: the record is newer"},
		{"invalid", "Are still invalid"},
		{"unfit", "Cannot be applied"},
		{"closed", "Are not open any more"},
	} {
		c.Facts = append(c.Facts, fact{v.text(outcome.text), grouped(r.Outcomes[outcome.name])})
	}
	for _, s := range r.Samples {
		c.Samples = append(c.Samples, fact{s.Dataset + " " + s.Key, s.Outcome + " " + s.Detail})
	}
	if r.Left > 0 {
		c.Warning = v.text("%s more are not in this step. A job takes any number: start one with the action redrive.", grouped(r.Left))
	}
	return nil
}

func discard(v *visit, choice map[string]any, c *confirmation) error {
	var d api.Discard
	if err := v.post("/v1/deadletters/discards", choice, &d); err != nil {
		return err
	}
	c.Question, c.Button, c.Danger, c.Typed = v.text("Discard these dead letters?"), v.text("Discard"), true, "discard"
	c.Facts = []fact{{v.text("Would be discarded"), grouped(d.Letters)}}
	c.Warning = v.text("Their changes are never applied.")
	if d.Left > 0 {
		c.Facts = append(c.Facts, fact{v.text("Left for another step"), grouped(d.Left)})
	}
	return nil
}

// letterPage shows one dead letter beside its record.
type letterPage struct {
	api.ShownLetter

	// Lines are the event's content beside the row's. Content is what a corrected event begins with; nil: it is not known.
	Lines   []diffLine
	Content json.RawMessage
}

func loadLetter(v *visit) (any, error) {
	data := ""
	if v.may(access.Operator) {
		data = "true"
	}
	p := letterPage{}
	if err := v.get("/v1/deadletters/"+seg(v.param("id")), &p.ShownLetter, "data", data); err != nil {
		return nil, err
	}
	if len(p.Event) > 0 {
		p.Content = dataOf(p.Event)
	}
	if p.Row != nil && len(p.Row.Data) > 0 && p.Content != nil {
		p.Lines = diff(p.Row.Data, p.Content)
	}
	return p, nil
}

// actLetter publishes a corrected event in the place of a dead letter.
func actLetter(v *visit) (*outcome, error) {
	if v.field("do") != "edit" {
		return nil, v.unknown()
	}
	id := v.field("id")
	sure := v.sure("")
	body := map[string]any{"dry_run": !sure, "why": v.field("reason")}
	if !sure {
		body["why"] = "dry run"
	}
	if data := v.field("data"); data != "" {
		if !json.Valid([]byte(data)) {
			return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("The content is not JSON. Nothing was published.")}
		}
		body["data"] = json.RawMessage(data)
	}
	if v.field("key") != "" {
		body["key"] = v.field("key")
	}
	if n, err := strconv.ParseInt(v.field("version"), 10, 64); err == nil {
		body["version"] = n
	}
	var edit api.Edit
	if err := v.post("/v1/deadletters/"+seg(id)+"/edit", body, &edit); err != nil {
		return nil, err
	}
	if sure {
		return &outcome{to: link("/deadletter", "id", id, "done", "edited")}, nil
	}
	return v.ask(confirmation{
		Path: "/deadletter", Question: v.text("Publish this corrected event?"), Button: v.text("Publish"),
		Facts: []fact{{v.text("Outcome"), edit.Outcome}, {v.text("Key"), edit.Key}, {v.text("Version"), strconv.FormatInt(edit.Version, 10)}, {v.text("Detail"), edit.Detail}},
	}, "do", "id", "data", "key", "version"), nil
}
