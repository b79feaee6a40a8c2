package schemas_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/binding/spec"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

// message shows a record to the CloudEvents SDK, as a Kafka binding would.
type message struct{ rec schemas.Record }

func (m message) header(name string) string {
	for _, h := range m.rec.Headers {
		if strings.EqualFold(h.Key, name) {
			return string(h.Value)
		}
	}
	return ""
}

func (m message) ReadEncoding() binding.Encoding {
	if strings.HasPrefix(m.header("content-type"), "application/cloudevents") {
		return binding.EncodingStructured
	}
	return binding.EncodingBinary
}

func (m message) ReadStructured(ctx context.Context, w binding.StructuredWriter) error {
	if m.ReadEncoding() != binding.EncodingStructured {
		return binding.ErrNotStructured
	}
	return w.SetStructuredEvent(ctx, format.Lookup(m.header("content-type")), bytes.NewReader(m.rec.Value))
}

func (m message) ReadBinary(_ context.Context, w binding.BinaryWriter) error {
	version := spec.WithPrefix("ce_").Version(m.header("ce_specversion"))
	for _, h := range m.rec.Headers {
		var err error
		switch name := strings.ToLower(h.Key); {
		case name == "content-type":
			err = w.SetAttribute(version.AttributeFromKind(spec.DataContentType), string(h.Value))
		case version.Attribute(name) != nil:
			err = w.SetAttribute(version.Attribute(name), string(h.Value))
		case strings.HasPrefix(name, "ce_"):
			err = w.SetExtension(strings.TrimPrefix(name, "ce_"), string(h.Value))
		}
		if err != nil {
			return err
		}
	}
	if m.rec.Value == nil {
		return nil
	}
	return w.SetData(bytes.NewReader(m.rec.Value))
}

func (m message) GetAttribute(k spec.Kind) (spec.Attribute, any) {
	a := spec.WithPrefix("ce_").Version("1.0").AttributeFromKind(k)
	return a, m.header(a.PrefixedName())
}

func (m message) GetExtension(name string) any { return m.header("ce_" + name) }

func (m message) Finish(error) error { return nil }

// writer makes a record of what the SDK writes in binary mode.
type writer struct{ rec *schemas.Record }

func (w writer) set(name string, v any) error {
	if v == nil {
		return nil
	}
	s, err := types.Format(v)
	w.rec.Headers = append(w.rec.Headers, schemas.Header{Key: name, Value: []byte(s)})
	return err
}

func (w writer) SetAttribute(a spec.Attribute, v any) error {
	if a.Kind() == spec.DataContentType {
		return w.set("content-type", v)
	}
	return w.set("ce_"+a.Name(), v)
}
func (w writer) SetExtension(name string, v any) error { return w.set("ce_"+name, v) }
func (w writer) Start(context.Context) error           { return nil }
func (w writer) End(context.Context) error             { return nil }

func (w writer) SetData(r io.Reader) (err error) {
	w.rec.Value, err = io.ReadAll(r)
	return err
}

// TestEncodeAgainstSDK: the SDK reads what we write and finds it valid.
func TestEncodeAgainstSDK(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	ev := fullEvent()
	rec, err := d.Encode(&ev)
	if err != nil {
		t.Fatal(err)
	}
	got, err := binding.ToEvent(t.Context(), message{rec})
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	texts := []string{
		got.ID(), got.Source(), got.Type(), got.Subject(), got.DataSchema(), got.DataContentType(), string(got.Data()),
		got.Extensions()["partitionkey"].(string), got.Extensions()["sequence"].(string), got.Extensions()["traceparent"].(string),
		got.Time().Format("2006-01-02T15:04:05.000Z07:00"),
	}
	want := []string{
		ev.ID, ev.Source, ev.Type, "users/42", ev.DataSchema, "application/json", string(ev.Data), "42", "0000000000000017",
		ev.TraceParent, "2026-01-02T03:04:05.678Z",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
}

// TestDecodeAgainstSDK: what the SDK writes, in either mode, we read.
func TestDecodeAgainstSDK(t *testing.T) {
	d := load(t, minimalYAML, wideSchema)
	want := fullEvent()
	for _, base64 := range []bool{false, true} {
		e := event.New()
		e.SetID(want.ID)
		e.SetSource(want.Source)
		e.SetType(want.Type)
		e.SetTime(want.Time)
		e.SetSubject("users/42")
		e.SetDataSchema(want.DataSchema)
		e.SetExtension("partitionkey", "42")
		e.SetExtension("sequence", "0000000000000017")
		e.SetExtension("traceparent", want.TraceParent)
		e.SetExtension("tracestate", want.TraceState)
		e.SetExtension("replaces", want.Replaces)
		if err := e.SetData("application/json", want.Data); err != nil {
			t.Fatal(err)
		}
		e.DataBase64 = base64
		binary := schemas.Record{Key: []byte("42")}
		if _, err := binding.Write(t.Context(), binding.ToMessage(&e), nil, writer{&binary}); err != nil {
			t.Fatal(err)
		}
		text, err := format.JSON.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		structured := schemas.Record{Key: []byte("42"), Value: text, Headers: []schemas.Header{
			{Key: "content-type", Value: []byte(format.JSON.MediaType())},
		}}
		for name, rec := range map[string]schemas.Record{"binary": binary, "structured": structured} {
			got, err := d.Decode(rec)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff([]schemas.Event{want}, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}
