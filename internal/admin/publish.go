package admin

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/schemas"
)

const (
	// maxEvents is the greatest number of events of one request.
	maxEvents = 1000
	// maxStructured bounds an event in the JSON format before it is read: its data may have spaces, or be in base64.
	maxStructured = 2 * schemas.MaxRecordBytes
)

// publisher takes events and invalidations.
type publisher struct {
	datasets  *schemas.Datasets
	producer  Producer // nil: nothing is published
	namespace string
	answers   *answers
}

func (pb *publisher) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/events", OperationID: "publish-events", Summary: "Publish CloudEvents",
		Description: "CloudEvents 1.0 over HTTP: binary (ce-… headers), structured (application/cloudevents+json) or a batch (application/cloudevents-batch+json). " +
			"The extension attributes partitionkey (the record's key) and sequence (its version) are needed; the dataset comes from ?dataset= or from the subject <dataset>/<key>. All events are checked before the first is sent.",
		DefaultStatus: http.StatusAccepted,
	}, pb.publishEvents)
	// It is documented here and read by the route itself. A deletion in binary mode has no body.
	on.OpenAPI().Paths["/v1/events"].Post.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{
		gate.MediaStructured: {Schema: &huma.Schema{Type: huma.TypeObject}}, gate.MediaBatch: {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}},
		"application/json": {Schema: &huma.Schema{Description: "the data of an event in binary mode"}},
	}}
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/invalidations", OperationID: "publish-invalidation", Summary: "Make cached entries stale",
		DefaultStatus: http.StatusAccepted,
	}, pb.publishInvalidation)
}

// eventsInput takes the whole request: CloudEvents spread over headers and body.
type eventsInput struct {
	Dataset     string `query:"dataset" maxLength:"64" doc:"the dataset, if the subject does not name it"`
	ContentType string `header:"Content-Type"`

	headers []schemas.Header
	body    string
}

// Resolve takes the body, and gathers the headers of the binary mode.
func (in *eventsInput) Resolve(ctx huma.Context) []error {
	in.body = gate.BodyText(ctx.BodyReader())
	ctx.EachHeader(func(name, value string) {
		lower := strings.ToLower(name)
		attr, ok := strings.CutPrefix(lower, "ce-")
		switch {
		case ok:
			if plain, err := url.PathUnescape(value); err == nil { // the HTTP binding percent-encodes
				value = plain
			}
			in.headers = append(in.headers, schemas.Header{Key: "ce_" + attr, Value: []byte(value)})
		case lower == "traceparent" || lower == "tracestate":
			in.headers = append(in.headers, schemas.Header{Key: lower, Value: []byte(value)})
		}
	})
	return nil
}

type publishedOutput struct {
	Body struct {
		Events int    `json:"events"`
		Token  string `json:"token" doc:"what a reader can wait for"`
	}
}

var errNoProducer = huma.Error503ServiceUnavailable("this process does not publish")

func (pb *publisher) publishEvents(ctx context.Context, in *eventsInput) (*publishedOutput, error) {
	if pb.producer == nil {
		return nil, errNoProducer
	}
	events, err := pb.readEvents(in)
	if err != nil {
		return nil, pb.answers.fail(ctx, "read events", err)
	}
	for i := range events {
		if d, ok := pb.datasets.Get(events[i].Dataset); ok {
			if err := refuseMasked(d, events[i].Data); err != nil {
				return nil, err
			}
		}
	}
	tok, err := pb.producer.Publish(ctx, events...)
	if err != nil {
		return nil, pb.answers.fail(ctx, "publish events", err)
	}
	out := &publishedOutput{}
	out.Body.Events, out.Body.Token = len(events), tok.String()
	return out, nil
}

func malformed(problem, fix string) error {
	return &schemas.FieldError{Field: "request", Problem: problem, Fix: fix, Reason: schemas.ReasonMalformed}
}

func (pb *publisher) readEvents(in *eventsInput) ([]schemas.Event, error) {
	media, _, err := mime.ParseMediaType(in.ContentType)
	if in.ContentType != "" && err != nil {
		return nil, malformed("has a content type that cannot be read", "send application/cloudevents+json, -batch+json, or ce-… headers")
	}
	switch media {
	case gate.MediaBatch:
		var list []string
		tooMany := malformed(fmt.Sprintf("has more than %d events", maxEvents), "send them in several requests")
		err := schemas.WalkArray(in.body, func(v schemas.JSON) error {
			if len(list) == maxEvents {
				return tooMany
			}
			list = append(list, v.Text)
			return nil
		})
		switch {
		case errors.Is(err, tooMany):
			return nil, tooMany
		case err != nil:
			return nil, malformed("is not a JSON array", "send an array of CloudEvents")
		case len(list) == 0:
			return nil, malformed("has no events", fmt.Sprintf("send 1 to %d", maxEvents))
		}
		var events []schemas.Event
		for i, one := range list {
			evs, err := pb.structured(in.Dataset, one)
			if err != nil {
				return nil, fmt.Errorf("event %d: %w", i, err)
			}
			events = append(events, evs...)
		}
		return events, nil
	case gate.MediaStructured:
		return pb.structured(in.Dataset, in.body)
	}
	return pb.binary(in)
}

func (pb *publisher) binary(in *eventsInput) ([]schemas.Event, error) {
	var key, subject string
	var hasKey bool
	for _, h := range in.headers {
		switch h.Key {
		case "ce_partitionkey":
			key, hasKey = string(h.Value), true
		case "ce_subject":
			subject = string(h.Value)
		}
	}
	if !slices.ContainsFunc(in.headers, func(h schemas.Header) bool { return h.Key == "ce_specversion" }) {
		return nil, malformed("is not a CloudEvent: it has no ce-specversion header, and its content type is not application/cloudevents+json", "send the one or the other")
	}
	if len(in.body) > schemas.MaxRecordBytes {
		return nil, malformed("has more data than an event may have", fmt.Sprintf("send at most %d bytes", schemas.MaxRecordBytes))
	}
	rec := schemas.Record{Headers: in.headers}
	if in.body != "" {
		rec.Value = []byte(in.body)
	}
	if in.body != "" && in.ContentType != "" {
		rec.Headers = append(rec.Headers, schemas.Header{Key: "content-type", Value: []byte(in.ContentType)})
	}
	return pb.decode(in.Dataset, subject, key, hasKey, rec)
}

func (pb *publisher) structured(dataset, body string) ([]schemas.Event, error) {
	if len(body) > maxStructured {
		return nil, malformed("has an event that is too large", fmt.Sprintf("an event is at most %d bytes", schemas.MaxRecordBytes))
	}
	var subject, key string
	hasKey := false
	err := schemas.WalkObject(body, func(name string, v schemas.JSON) error { // which refuses duplicates, and knows no other spelling
		switch {
		case name == "subject" && v.Kind == schemas.JSONString:
			subject = v.Text
		case name == "partitionkey" && v.Kind == schemas.JSONString:
			key, hasKey = v.Text, true
		case (name == "subject" || name == "partitionkey") && v.Kind != schemas.JSONNull:
			return errBody
		}
		return nil
	})
	if err != nil {
		return nil, malformed("is not a CloudEvent in the JSON format", "send one JSON object, each member once")
	}
	rec := schemas.Record{
		Value:   []byte(body),
		Headers: []schemas.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}},
	}
	return pb.decode(dataset, subject, key, hasKey, rec)
}

// decode reads a record's event as a worker would.
func (pb *publisher) decode(dataset, subject, key string, hasKey bool, rec schemas.Record) ([]schemas.Event, error) {
	of, subjectKey, split := strings.Cut(subject, "/")
	if dataset == "" && split {
		dataset = of
	}
	if !hasKey && split && of == dataset {
		key, hasKey = subjectKey, true
	}
	d, ok := pb.datasets.Get(dataset)
	if !ok {
		return nil, malformed("identifies no declared dataset", "give ?dataset=, or the subject <dataset>/<key>")
	}
	if d.Format != schemas.FormatCloudEvents {
		return nil, malformed("identifies a dataset that other tools write", "change the row in its database")
	}
	if hasKey {
		rec.Key = []byte(key)
	}
	events, err := d.Decode(rec)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, malformed("has no event", "send a CloudEvent")
	}
	for i := range events {
		if _, err := d.Check(&events[i]); err != nil {
			return nil, err
		}
	}
	return events, nil
}

type invalidationInput struct {
	Body struct {
		Names   []string `json:"names,omitempty" maxItems:"1000" doc:"cache keys as the datasets' templates make them"`
		Tags    []string `json:"tags,omitempty" maxItems:"1000"`
		Dataset string   `json:"dataset,omitempty" maxLength:"64" doc:"together with keys"`
		Keys    []string `json:"keys,omitempty" maxItems:"1000" doc:"record keys of the dataset"`
		Reason  string   `json:"reason,omitempty" maxLength:"500"`
	}
}

func (pb *publisher) publishInvalidation(ctx context.Context, in *invalidationInput) (*acceptedOutput, error) {
	b := &in.Body
	names := b.Names
	gate.Note(ctx, "reason", b.Reason)
	if len(b.Keys) > 0 && b.Dataset == "" {
		return nil, huma.Error422UnprocessableEntity("keys are records of a dataset: give dataset too; cache keys go into names")
	}
	if len(b.Keys) > 0 {
		d, err := pb.answers.dataset(b.Dataset)
		if err != nil {
			return nil, err
		}
		if d.Cache == nil {
			return nil, huma.Error409Conflict("the dataset has no cache section, so nothing of it is cached")
		}
		for i, k := range b.Keys {
			name, err := d.CacheKey(k)
			if err != nil {
				return nil, pb.answers.fail(ctx, "read keys", fmt.Errorf("keys[%d]: %w", i, err))
			}
			names = append(names, name)
		}
	}
	if len(names)+len(b.Tags) == 0 {
		return nil, huma.Error422UnprocessableEntity("nothing is named; give names, tags, or dataset and keys")
	}
	return pb.invalidate(ctx, names, b.Tags)
}

// invalidate publishes and notes what.
func (pb *publisher) invalidate(ctx context.Context, names, tags []string) (*acceptedOutput, error) {
	gate.Note(ctx, "names", len(names))
	gate.Note(ctx, "tags", len(tags))
	if pb.producer == nil {
		return nil, errNoProducer
	}
	tok, err := pb.producer.Invalidate(ctx, pb.namespace, names, tags)
	if err != nil {
		if noTopic(err) {
			return nil, huma.Error409Conflict("the namespace's invalidation topic does not exist; make it with `freshet migrate datasets`")
		}
		return nil, pb.answers.fail(ctx, "publish invalidation", err)
	}
	out := &acceptedOutput{}
	out.Body.Token = tok.String()
	return out, nil
}
