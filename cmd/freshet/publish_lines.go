package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/schemas"
)

const (
	maxLine      = 4 << 20 // bytes of one line; an event is at most 1,000,000
	shownRefused = 100     // refusals told one by one; the rest is counted
)

// lineRun publishes one event a line and remembers what became of each.
type lineRun struct {
	pub     *publisher
	dataset string
	err     io.Writer
	bar     *bar
	started time.Time

	mu        sync.Mutex
	lines     int
	published int
	refused   int
	failed    int
	told      int
	token     schemas.Token
	took      time.Duration
}

func newLineRun(pub *publisher, dataset string, w io.Writer) *lineRun {
	return &lineRun{pub: pub, dataset: dataset, err: w, started: time.Now()}
}

// line is one event as people write it.
type line struct {
	ID      string          `json:"id"`
	Source  string          `json:"source"`
	Dataset string          `json:"dataset"`
	Key     *string         `json:"key"`
	Op      string          `json:"op"`
	Version int64           `json:"version"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`
}

func (r *lineRun) publish(ctx context.Context, in io.Reader) error {
	br := bufio.NewReaderSize(in, 1<<20)
	for n := 1; ; n++ {
		text, tooLong, err := readLine(br)
		if len(bytes.TrimSpace(text)) > 0 || tooLong {
			r.mu.Lock()
			r.lines++
			r.mu.Unlock()
			if perr := r.one(ctx, n, text, tooLong); perr != nil {
				return r.finish(ctx, perr)
			}
		}
		if r.bar != nil {
			r.bar.add(len(text) + 1)
			r.bar.draw(r.snapshot())
		}
		if errors.Is(err, io.EOF) {
			return r.finish(ctx, nil)
		}
		if err != nil {
			return r.finish(ctx, fmt.Errorf("read line %d: %w", n, err))
		}
	}
}

// one publishes a line. It returns an error only when continuing makes no sense.
func (r *lineRun) one(ctx context.Context, n int, text []byte, tooLong bool) error {
	if tooLong {
		r.refuse(n, fmt.Errorf("line is longer than %d bytes; an event is at most %d", maxLine, schemas.MaxRecordBytes))
		return nil
	}
	ev, err := r.pub.parse(text, r.dataset)
	if err != nil {
		r.refuse(n, err)
		return nil
	}
	err = r.pub.PublishAsync(ctx, ev, func(tok schemas.Token, err error) { r.done(n, tok, err) })
	if errors.Is(err, schemas.ErrInvalid) {
		r.refuse(n, err)
		return nil
	}
	if err != nil {
		r.fail(n, err)
		return fmt.Errorf("line %d: %w", n, err)
	}
	return nil
}

func (r *lineRun) done(n int, tok schemas.Token, err error) {
	if err != nil {
		r.fail(n, err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published++
	r.token = r.token.Merge(tok)
}

func (r *lineRun) refuse(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
	r.tell(n, "refused", err)
}

func (r *lineRun) fail(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
	r.tell(n, "not published", err)
}

func (r *lineRun) tell(n int, what string, err error) {
	r.told++
	switch {
	case r.told <= shownRefused:
		r.clearBar()
		fmt.Fprintf(r.err, "line %d: %s: %v\n", n, what, err)
	case r.told == shownRefused+1:
		r.clearBar()
		fmt.Fprintln(r.err, "… further lines are only counted")
	}
}

func (r *lineRun) clearBar() {
	if r.bar != nil {
		r.bar.clear()
	}
}

func (r *lineRun) finish(ctx context.Context, err error) error {
	ferr := r.pub.Flush(ctx)
	r.mu.Lock()
	r.took = time.Since(r.started)
	r.clearBar()
	r.mu.Unlock()
	if err == nil && ferr != nil {
		err = fmt.Errorf("wait for acknowledgements: %w", ferr)
	}
	return err
}

// summary is what publish prints at the end.
type summary struct {
	Lines     int     `json:"lines"`
	Published int     `json:"published"`
	Refused   int     `json:"refused"`
	Failed    int     `json:"failed"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"events_per_second"`
	Token     string  `json:"token"`
}

func (r *lineRun) snapshot() summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	took := r.took
	if took == 0 {
		took = time.Since(r.started)
	}
	return summary{
		Lines: r.lines, Published: r.published, Refused: r.refused, Failed: r.failed,
		Seconds: took.Seconds(), PerSecond: float64(r.published) / max(took.Seconds(), 1e-9),
	}
}

func (r *lineRun) summary() summary {
	s := r.snapshot()
	if !r.token.IsZero() {
		s.Token = r.token.String()
	}
	return s
}

func (s summary) line() string {
	return fmt.Sprintf("published %d of %d lines in %.1f s (%.0f events/s), refused %d, not published %d",
		s.Published, s.Lines, s.Seconds, s.PerSecond, s.Refused, s.Failed)
}

// readLine returns the next line without its end. A line above maxLine is skipped and reported.
func readLine(br *bufio.Reader) (text []byte, tooLong bool, err error) {
	for {
		part, err := br.ReadSlice('\n')
		switch {
		case len(text)+len(part) > maxLine:
			tooLong, text = true, nil
		case !tooLong:
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(text, "\r\n"), tooLong, err
		}
	}
}

// parse reads a line as an event. Errors wrap schemas.ErrInvalid.
func (p *publisher) parse(text []byte, dataset string) (schemas.Event, error) {
	var l line
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return schemas.Event{}, &schemas.FieldError{Field: "line", Problem: jsonProblem(err), Fix: `write one object such as {"dataset":"users","version":7,"data":{…}}`, Reason: schemas.ReasonMalformed}
	}
	if dec.More() {
		return schemas.Event{}, &schemas.FieldError{Field: "line", Problem: "has more than one JSON value", Fix: "write one event a line", Reason: schemas.ReasonMalformed}
	}
	if l.Dataset == "" {
		l.Dataset = dataset
	}
	d, ok := p.datasets.Get(l.Dataset)
	if !ok {
		return schemas.Event{}, &schemas.FieldError{Field: "dataset", Problem: "is not declared", Fix: "declared are: " + p.names(), Reason: schemas.ReasonDataset}
	}
	ev := schemas.Event{ID: l.ID, Source: l.Source, Dataset: l.Dataset, Version: l.Version, Time: l.Time, Data: l.Data}
	switch strings.ToLower(l.Op) {
	case "", "upsert":
		ev.Op = schemas.Upsert
	case "delete":
		ev.Op = schemas.Delete
	default:
		return schemas.Event{}, &schemas.FieldError{Field: "op", Problem: "is unknown", Fix: "use upsert or delete", Reason: schemas.ReasonMalformed}
	}
	if l.Key != nil {
		ev.Key = *l.Key
		return ev, nil
	}
	key, err := keyOf(d, l.Data)
	ev.Key = key
	return ev, err
}

// keyOf makes the key from the key properties of data.
func keyOf(d *schemas.Dataset, data []byte) (string, error) {
	var props map[string]json.RawMessage
	if err := json.Unmarshal(data, &props); err != nil {
		return "", &schemas.FieldError{Field: "key", Problem: "is absent and data is not an object to take it from", Fix: "give key or data", Reason: schemas.ReasonKey}
	}
	values := make([]any, len(d.Key))
	for i, name := range d.Key {
		dec := json.NewDecoder(bytes.NewReader(props[name]))
		dec.UseNumber()
		if err := dec.Decode(&values[i]); err != nil || values[i] == nil {
			return "", &schemas.FieldError{Field: "data/" + name, Problem: "is absent and the key needs it", Fix: "give key or the key property", Reason: schemas.ReasonKey}
		}
	}
	return d.FormatKey(values...)
}

func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("is not JSON (at byte %d)", syntax.Offset)
	case errors.As(err, &typ):
		return "has a member of the wrong type: " + typ.Field
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "is cut off"
	}
	return "is not an event: unknown member or bad time"
}
