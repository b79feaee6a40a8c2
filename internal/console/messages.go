package console

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func messagesScreen() *screen {
	return &screen{path: "/messages", name: "messages", title: "Messages", nav: true, least: access.Viewer, every: 2 * time.Second, load: loadMessages, act: actMessages}
}

// messagesPage is a part of a dataset's topic.
type messagesPage struct {
	Datasets []api.DatasetState
	Dataset  string
	Topic    string
	Items    []shownMessage
	// Next is where the partition continues, for the next page; "" at the end, or for several partitions.
	Next string
}

// shownMessage is a message with what a person can do with it.
type shownMessage struct {
	api.Message

	ID      string // in the page
	TraceID string
	Publish string // the command that publishes it again
	Curl    string
	Kcat    string
}

func loadMessages(v *visit) (any, error) {
	sets, err := v.datasets()
	if err != nil {
		return nil, err
	}
	p := messagesPage{Datasets: sets, Dataset: v.param("dataset"), Items: []shownMessage{}}
	if p.Dataset == "" && len(sets) > 0 {
		p.Dataset = sets[0].Name
	}
	if p.Dataset == "" {
		return p, nil
	}
	for _, d := range sets {
		if d.Name == p.Dataset {
			p.Topic = d.Topic
		}
	}
	data := ""
	if v.may(access.Operator) {
		data = "true"
	}
	var found struct {
		Items []api.Message
		Next  map[string]int64
	}
	err = v.get("/v1/messages", &found, "dataset", p.Dataset, "partition", v.param("partition"), "from", v.param("from"), "key", v.param("key"),
		"prefix", v.param("prefix"), "op", v.param("op"), "type", v.param("type"), "bad", v.param("bad"), "data", data, "limit", "100")
	if err != nil {
		return nil, err
	}
	for i := range found.Items {
		p.Items = append(p.Items, describe(p.Dataset, p.Topic, &found.Items[i]))
	}
	if v.param("from") == "" || strings.HasPrefix(v.param("from"), "end") {
		slices.SortStableFunc(p.Items, func(a, b shownMessage) int { return b.Time.Compare(a.Time) })
	} else if at, ok := found.Next[v.param("partition")]; ok && len(found.Items) > 0 {
		p.Next = strconv.FormatInt(at, 10)
	}
	return p, nil
}

// describe adds the commands with which a person can get or repeat the message elsewhere.
func describe(dataset, topic string, m *api.Message) shownMessage {
	s := shownMessage{Message: *m, ID: "m-" + strconv.Itoa(int(m.Partition)) + "-" + strconv.FormatInt(m.Offset, 10)}
	if parts := strings.Split(m.Headers["traceparent"], "-"); len(parts) == 4 {
		s.TraceID = parts[1]
	}
	s.Kcat = "kcat -C -t " + shell(topic) + " -p " + strconv.Itoa(int(m.Partition)) + " -o " + strconv.FormatInt(m.Offset, 10) + " -c 1"
	version := strconv.FormatInt(m.Version, 10)
	switch {
	case m.Op == "delete":
		s.Publish = "freshet publish " + shell(dataset) + " " + shell(m.Key) + " --version " + version + " --delete"
	case len(m.Data) > 0:
		s.Publish = "freshet publish " + shell(dataset) + " " + shell(m.Key) + " --version " + version + " --data " + shell(string(m.Data))
	default:
		return s
	}
	body, err := json.Marshal(eventOf(dataset, m.Key, m.Op, version, m.Data))
	if err == nil {
		s.Curl = "curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/cloudevents+json' -d " + shell(string(body)) + " http://127.0.0.1:7789/v1/events"
	}
	return s
}

// shell quotes a word for a shell.
func shell(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// cloudEvent is an event as the API takes it.
type cloudEvent struct {
	SpecVersion  string          `json:"specversion"`
	ID           string          `json:"id"`
	Source       string          `json:"source"`
	Type         string          `json:"type"`
	Subject      string          `json:"subject"`
	PartitionKey string          `json:"partitionkey"`
	Sequence     string          `json:"sequence"`
	Data         json.RawMessage `json:"data,omitempty"`
}

// eventOf is an event of a record, with an id of its own.
func eventOf(dataset, key, op, version string, data json.RawMessage) cloudEvent {
	return cloudEvent{
		SpecVersion: "1.0", ID: rand.Text(), Source: "//freshet/console", Type: "io.freshet.row." + op + ".v1", Subject: dataset + "/" + url.PathEscape(key),
		PartitionKey: key, Sequence: version, Data: data,
	}
}

// actMessages publishes a message's record again, as a new event.
func actMessages(v *visit) (*outcome, error) {
	if v.field("do") != "publish" {
		return nil, v.unknown()
	}
	dataset, key, op, version, data := v.field("dataset"), v.field("key"), v.field("op"), v.field("version"), v.field("data")
	if op == "upsert" && !json.Valid([]byte(data)) {
		return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("The content is not JSON. Nothing was published.")}
	}
	sure := v.sure("")
	if !sure {
		r, err := v.record(dataset, key)
		if err != nil {
			return nil, err
		}
		return v.ask(publishQuestion(v, r, op, version), "do", "dataset", "key", "op", "version", "data"), nil
	}
	ev := eventOf(dataset, key, op, version, nil)
	if op == "upsert" {
		ev.Data = json.RawMessage(data)
	}
	body, err := json.Marshal(ev)
	if err != nil {
		return nil, err
	}
	if err := v.client.do(v.Context(), http.MethodPost, "/v1/events", "application/cloudevents+json", body, nil); err != nil {
		return nil, err
	}
	return &outcome{to: link("/record", "dataset", dataset, "key", key, "done", "published")}, nil
}

func publishQuestion(v *visit, r *api.Record, op, version string) confirmation {
	c := confirmation{
		Path: "/messages", Question: v.text("Publish a new event of %s %s?", r.Dataset, r.Key), Button: v.text("Publish"), Unlogged: true,
		Facts: []fact{{v.text("Operation"), op}, {v.text("Version of the event"), version}},
	}
	if r.Row != nil {
		c.Facts = append(c.Facts, fact{v.text("Version of the row"), strconv.FormatInt(r.Row.Version, 10)})
		if n, err := strconv.ParseInt(version, 10, 64); err == nil && n <= r.Row.Version {
			c.Warning = v.text("The row is as new or newer, so the event will change nothing. Give it a greater version.")
		}
	}
	return c
}

// Export lists the messages.
func (p messagesPage) Export() (items any, header []string, rows [][]string) {
	all := make([]api.Message, 0, len(p.Items))
	for _, m := range p.Items {
		all = append(all, m.Message)
		rows = append(rows, []string{
			strconv.Itoa(int(m.Partition)), strconv.FormatInt(m.Offset, 10), m.Time.UTC().Format(time.RFC3339Nano), m.Key, m.Op, strconv.FormatInt(m.Version, 10), m.Problem, string(m.Data),
		})
	}
	return all, []string{"partition", "offset", "time", "key", "op", "version", "problem", "data"}, rows
}
