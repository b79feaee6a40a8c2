package msgpack_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/msgpack"
)

var _ invalidation.Codec[int] = msgpack.Codec[int]{}

type address struct {
	Street string            `json:"street"`
	Labels map[string]string `json:"labels"`
}

type user struct {
	ID      int64      `json:"id"`
	Name    string     `json:"name,omitempty"`
	Big     uint64     `json:"big"`
	Score   float64    `json:"score"`
	Active  bool       `json:"active"`
	Photo   []byte     `json:"photo"`
	Born    time.Time  `json:"born"`
	Left    *time.Time `json:"left"`
	Homes   []address  `json:"homes"`
	Parent  *user      `json:"parent"`
	Any     any        `json:"any"`
	Skipped string     `json:"-"`
}

func sample() user {
	left := time.Date(2026, 11, 24, 10, 11, 12, 123456789, time.UTC)
	return user{
		ID: math.MinInt64, Name: "Ada ☃", Big: math.MaxUint64, Score: -0.1, Active: true, Photo: []byte{0, 0xC1, 0xFF},
		Born: time.Date(1815, 12, 10, 0, 0, 0, 1, time.FixedZone("there", 3600)), Left: &left,
		Homes:  []address{{Street: "St James's Square", Labels: map[string]string{"city": "London"}}, {}},
		Parent: &user{ID: 1, Name: "Anne"},
		Any:    map[string]any{"list": []any{"a", true, nil}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	var c msgpack.Codec[user]
	for name, want := range map[string]user{"full": sample(), "zero": {}} {
		data, err := c.Encode(want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// Times are compared by their instant.
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	u := sample()
	u.Skipped = "secret"
	data, err := c.Encode(u)
	if err != nil || strings.Contains(string(data), "secret") {
		t.Errorf("a field without a name was written: %v", err)
	}
	if got, err := (msgpack.Codec[string]{}).Decode([]byte{0xA0}); err != nil || got != "" {
		t.Errorf("empty string: %q, %v", got, err)
	}
}

// Nodes of an older and a newer release read each other's entries.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	type newer struct {
		ID    int64          `json:"id"`
		Name  string         `json:"name"`
		Extra map[string]any `json:"extra"`
		More  time.Time      `msgpack:"more"`
	}
	type older struct {
		Name string `json:"name"`
	}
	data, err := msgpack.Codec[newer]{}.Encode(newer{ID: 7, Name: "Ada", Extra: map[string]any{"a": []any{1, 2}}, More: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (msgpack.Codec[older]{}).Decode(data); err != nil || got.Name != "Ada" {
		t.Errorf("older: %+v, %v", got, err)
	}
	if data, err = (msgpack.Codec[older]{}).Encode(older{"Bob"}); err != nil {
		t.Fatal(err)
	}
	if got, err := (msgpack.Codec[newer]{}).Decode(data); err != nil || got.Name != "Bob" || got.ID != 0 || got.Extra != nil || !got.More.IsZero() {
		t.Errorf("newer: %+v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	data, err := msgpack.Codec[user]{}.Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "JSON": []byte(`{"id":1}`), "cut off": data[:len(data)-1], "more than one": append(append([]byte(nil), data...), 0xC0),
		"another type": {0xA3, 'a', 'b', 'c'}, "a length without bytes": {0xDB, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		if got, err := (msgpack.Codec[user]{}).Decode(bad); !errors.Is(err, msgpack.ErrDecode) || !cmp.Equal(got, user{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := (msgpack.Codec[func()]{}).Encode(func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

func FuzzDecode(f *testing.F) {
	data, err := msgpack.Codec[user]{}.Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"id":1}`))
	f.Add([]byte{0xDF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := msgpack.Codec[user]{}.Decode(data)
		if err != nil {
			return
		}
		if _, err := (msgpack.Codec[user]{}).Encode(u); err != nil {
			t.Errorf("what was decoded cannot be encoded: %v", err)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	u := sample()
	for name, c := range map[string]invalidation.Codec[user]{"msgpack": msgpack.Codec[user]{}, "json": invalidation.JSON[user]{}} {
		data, err := c.Encode(u)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Encode(u); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)), "bytes")
		})
	}
}
