package lane_test

import (
	"encoding/json"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/invalidation/lane"
)

func TestKeyVectors(t *testing.T) {
	type vector struct {
		Key   string
		CRC32 uint32
		Lanes int
		Lane  int
	}
	for _, v := range vectors[vector](t, "keys.json") {
		if got := crc32.ChecksumIEEE([]byte(v.Key)); got != v.CRC32 {
			t.Errorf("crc32 of %q: got %d, want %d", v.Key, got, v.CRC32)
		}
		if got := lane.Of(v.Key, v.Lanes); got != v.Lane {
			t.Errorf("lane of %q among %d: got %d, want %d", v.Key, v.Lanes, got, v.Lane)
		}
	}
}

func TestOfIsCRC32(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, n := rapid.String().Draw(t, "key"), rapid.IntRange(1, 4096).Draw(t, "lanes")
		if got, want := lane.Of(key, n), int(crc32.ChecksumIEEE([]byte(key))%uint32(n)); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
	if n := testing.AllocsPerRun(100, func() { lane.Of("user:email:a-rather-long-address@example.com", 7) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeysOf(t *testing.T) {
	k := lane.KeysOf("shop", 3)
	got := []string{k.Stream, k.Meta, k.Tags, k.Floors0, k.Floors1, k.Channel, k.Value("user:42")}
	want := []string{"{fr:shop:3}:lane", "{fr:shop:3}:meta", "{fr:shop:3}:tags", "{fr:shop:3}:f0", "{fr:shop:3}:f1", "{fr:shop:3}:ch", "{fr:shop:3}:v:user:42"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCheckNamespace(t *testing.T) {
	for _, ns := range []string{"a", "shop-1.eu_west", strings.Repeat("x", 32)} {
		if err := lane.CheckNamespace(ns); err != nil {
			t.Errorf("%q: %v", ns, err)
		}
	}
	for _, ns := range []string{"", "Shop", "a:b", "a}b", "ä", strings.Repeat("x", 33)} {
		if err := lane.CheckNamespace(ns); !errors.Is(err, lane.ErrNamespace) {
			t.Errorf("%q: got %v", ns, err)
		}
	}
}

func TestSplitID(t *testing.T) {
	if s, n, ok := lane.SplitID("17-281474976710655"); s != 17 || n != 1<<48-1 || !ok {
		t.Errorf("got %d %d %v", s, n, ok)
	}
	for _, id := range []string{"", "-", "1", "1-", "-1", "01-1", "1-01", "1-2-3", "+1-2", "1- 2", "9007199254740992-1", "1-99999999999999999999"} {
		if _, _, ok := lane.SplitID(id); ok {
			t.Errorf("%q was taken for an ID", id)
		}
	}
}

type wirePayload struct {
	S       string
	F, O, T int64
	K       []string
	N       []int64
	G       []string
	X       bool
}

func (w *wirePayload) payload() lane.Payload {
	p := lane.Payload{Source: w.S, From: w.F, To: w.O, Time: w.T, Tags: w.G, Flush: w.X}
	for i, k := range w.K {
		p.Items = append(p.Items, lane.Item{Key: k, Version: w.N[i]})
	}
	return p
}

func TestFrameVectors(t *testing.T) {
	type vector struct {
		Name, Last, Frame, Prev, ID string
		Follows                     bool
		Payload                     wirePayload
		Error                       string
		Strict                      bool
	}
	for _, v := range vectors[vector](t, "frames.json") {
		t.Run(v.Name, func(t *testing.T) {
			f, err := lane.ParseFrame(v.Frame)
			want := map[string]error{"": nil, "version": lane.ErrVersion, "malformed": lane.ErrMalformed}[v.Error]
			if !errors.Is(err, want) {
				t.Errorf("got error %v, want %v", err, want)
			}
			if f.Prev != v.Prev || f.ID != v.ID {
				t.Errorf("got %q %q", f.Prev, f.ID)
			}
			if d := cmp.Diff(v.Payload.payload(), f.Payload, cmpopts.EquateEmpty()); err == nil && d != "" {
				t.Error(d)
			}
			if got := f.Prev == v.Last && f.Prev != ""; err == nil && got != v.Follows {
				t.Errorf("follows: got %v", got)
			}
			if err != nil && !reflect.DeepEqual(f.Payload, lane.Payload{}) {
				t.Errorf("a refused payload was given: %+v", f.Payload)
			}
		})
	}
}

// What a later version of the protocol adds is ignored, also where the members of this one are read strictly.
func TestUnknownMembersAreIgnored(t *testing.T) {
	for _, more := range []string{
		`"new":{"a":1,"a":2}`, `"new":1e500`, `"new":"\ud800"`, `"new":` + strings.Repeat("[", 100) + strings.Repeat("]", 100),
		`"new":1,"new":2`, `"new":[1,{"b":null}] ,"z":true`,
	} {
		p, err := lane.ParsePayload(`{"v":1,` + more + `,"k":["a"],"n":[7]}`)
		if err != nil || len(p.Items) != 1 || p.Items[0].Version != 7 {
			t.Errorf("%s: %+v, %v", more, p, err)
		}
	}
	for _, bad := range []string{`"new":`, `"new":{`, `"new":01`, "\"new\":\"\xff\"", `"z":1,"z":2`} {
		if _, err := lane.ParsePayload(`{"v":1,` + bad + `}`); !errors.Is(err, lane.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFrameLimits(t *testing.T) {
	pad := func(n int) string {
		f := `1-1 2-2 {"v":1,"x":1,"pad":"` + `"}`
		return strings.Replace(f, `"}`, strings.Repeat("x", n-len(f))+`"}`, 1)
	}
	if _, err := lane.ParseFrame(pad(lane.MaxFrame)); err != nil {
		t.Errorf("largest frame: %v", err)
	}
	if _, err := lane.ParseFrame(pad(lane.MaxFrame + 1)); !errors.Is(err, lane.ErrMalformed) {
		t.Errorf("larger frame: got %v", err)
	}
	list := func(n int) string { return `["k"` + strings.Repeat(`,"k"`, n-1) + `]` }
	for n, want := range map[int]error{lane.MaxTags: nil, lane.MaxTags + 1: lane.ErrMalformed} {
		if _, err := lane.ParsePayload(`{"v":1,"g":` + list(n) + `}`); !errors.Is(err, want) {
			t.Errorf("%d tags: got %v", n, err)
		}
	}
}

// TestErrorsHoldNoNames: an error text goes to logs, and names are as private as the records.
func TestErrorsHoldNoNames(t *testing.T) {
	for _, p := range []string{
		`{"v":1,"s":"SECRET","k":["SECRET"]}`, `{"v":1,"k":["SECRET"],"n":["SECRET"]}`, `{"v":1,"SECRET":1,"SECRET":2,"x":"SECRET"}`,
		`{"v":1,"k":[{"SECRET":1}]}`, `SECRET`, `{"v":"SECRET"}`,
	} {
		_, err := lane.ParseFrame("1-1 2-2 " + p)
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func drawPayload(t *rapid.T) lane.Payload {
	name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z]{1,8}:[0-9]{1,6}`), rapid.SampledFrom([]string{"", `"`, `\`, "\x00", "\x1f\x7f", "\u2028", "\uFFFD", "😀"}))
	p := lane.Payload{Flush: rapid.Bool().Draw(t, "x"), Time: rapid.Int64Range(0, 1<<53-1).Draw(t, "t")}
	if rapid.Bool().Draw(t, "has source") {
		p.Source = "a" + name.Draw(t, "s")
		p.From = rapid.Int64Range(0, 1<<53-1).Draw(t, "f")
		p.To = rapid.Int64Range(p.From-1, 1<<53-1).Draw(t, "o")
	}
	p.Items = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) lane.Item {
		return lane.Item{Key: name.Draw(t, "k"), Version: rapid.Int64Range(0, lane.PrimaryOnly-1).Draw(t, "n")}
	}), 0, 5).Draw(t, "items")
	p.Tags = rapid.SliceOfN(name, 0, 3).Draw(t, "tags")
	return p
}

func TestPayloadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPayload(t)
		b := lane.AppendPayload(nil, &p)
		if !json.Valid(b) {
			t.Fatalf("no JSON: %s", b)
		}
		got, err := lane.ParsePayload(string(b))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		// What other languages read with their libraries.
		var o wirePayload
		if err := json.Unmarshal([]byte(strings.Replace(string(b), `"x":1`, `"x":true`, 1)), &o); err == nil {
			if d := cmp.Diff(p, o.payload(), cmpopts.EquateEmpty()); d != "" && !strings.Contains(string(b), `"x":1`) {
				t.Fatal(d)
			}
		}
	})
}

// TestPayloadNames: a name that JSON cannot carry flushes the lane and never becomes another name.
func TestPayloadNames(t *testing.T) {
	for _, p := range []lane.Payload{
		{Source: "s", Items: []lane.Item{{Key: "a\xff", Version: 1}, {Key: "b", Version: 2}}},
		{Source: "s", Items: []lane.Item{{Key: "b", Version: 2}}, Tags: []string{"\xc3"}},
		{Source: "s", Items: []lane.Item{{Key: "b", Version: 2}, {Key: "\xed\xa0\x80", Version: 1}}},
	} {
		got, err := lane.ParsePayload(string(lane.AppendPayload(nil, &p)))
		if err != nil || !got.Flush || len(got.Tags) != 0 || !cmp.Equal(got.Items, []lane.Item{{Key: "b", Version: 2}}) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if _, err := lane.ParsePayload("{\"v\":1,\"g\":[\"\xff\"]}"); !errors.Is(err, lane.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// TestPayloadVersions: what cannot be compared becomes 0, "always delete".
func TestPayloadVersions(t *testing.T) {
	p := lane.Payload{Items: []lane.Item{{"a", -1}, {"b", lane.PrimaryOnly}, {"c", 1<<63 - 1}, {"d", lane.PrimaryOnly - 1}}}
	got, err := lane.ParsePayload(string(lane.AppendPayload(nil, &p)))
	want := []lane.Item{{"a", 0}, {"b", 0}, {"c", 0}, {"d", lane.PrimaryOnly - 1}}
	if d := cmp.Diff(want, got.Items); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestAppendPayloadAllocatesNothing(t *testing.T) {
	p := fullPayload()
	buf := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(100, func() { lane.AppendPayload(buf, &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func fullPayload() lane.Payload {
	p := lane.Payload{Source: "freshet.users/kR3xxxxxxxxxxxxxxxxxxw/3", From: 1000, To: 1099, Time: 1760000000123}
	for i := range lane.MaxKeys {
		p.Items = append(p.Items, lane.Item{Key: "user:0123456789abc" + string(rune('a'+i%26)), Version: 1<<52 + int64(i)})
	}
	return p
}

func TestValueVectors(t *testing.T) {
	type vector struct {
		Name, Text, Base64 string
		Bad                bool
		Version            int64
		Root               string
		Seq, Expiry        int64
		Tags               []string
		Data               string
	}
	for _, v := range vectors[vector](t, "values.json") {
		t.Run(v.Name, func(t *testing.T) {
			b := v.Text
			if v.Base64 != "" {
				b = unbase64(t, "base64:"+v.Base64)
			}
			got, ok := lane.ParseValue([]byte(b))
			if ok == v.Bad {
				t.Fatalf("ok: got %v", ok)
			}
			if !ok {
				return
			}
			want := lane.Value{Version: v.Version, Root: v.Root, Seq: v.Seq, Expiry: v.Expiry, Tags: v.Tags, Data: []byte(unbase64(t, v.Data))}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzParsePayload(f *testing.F) {
	p := fullPayload()
	f.Add(string(lane.AppendPayload(nil, &p)))
	f.Add(`{"v":1,"s":"a","f":0,"o":-1,"k":["\u00e4"],"n":[1],"zz":{"a":[1,{}]},"g":["t"],"x":1}`)
	f.Add(`{"v":1,"":[]}`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := lane.ParsePayload(s)
		if err != nil {
			if !errors.Is(err, lane.ErrMalformed) && !errors.Is(err, lane.ErrVersion) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		b := lane.AppendPayload(nil, &got)
		again, err := lane.ParsePayload(string(b))
		if got.Time < 0 {
			got.Time = 0
		}
		for i := range got.Items {
			if got.Items[i].Version == lane.PrimaryOnly {
				got.Items[i].Version = 0
			}
		}
		if d := cmp.Diff(got, again, cmpopts.EquateEmpty()); err != nil || d != "" {
			t.Fatal(err, d)
		}
		// The library agrees about the names.
		var lib struct {
			K, G []string
			S    string
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(s), &raw); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]any{"k": &lib.K, "g": &lib.G, "s": &lib.S} {
			if m, ok := raw[name]; ok {
				if err := json.Unmarshal(m, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		var keys []string
		for _, it := range got.Items {
			keys = append(keys, it.Key)
		}
		if !cmp.Equal(lib.K, keys, cmpopts.EquateEmpty()) || !cmp.Equal(lib.G, got.Tags, cmpopts.EquateEmpty()) || lib.S != got.Source {
			t.Fatalf("library read %+v, we %+v", lib, got)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	f.Add(`6-8 7-9 {"v":1,"x":1}`)
	f.Add(`- 1-9 {"v":2}`)
	f.Add(`  `)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := lane.ParseFrame(s)
		if err != nil {
			return
		}
		again, err := lane.ParseFrame(string(lane.AppendFrame(nil, got.Prev, got.ID, lane.AppendPayload(nil, &got.Payload))))
		if err != nil || again.Prev != got.Prev || again.ID != got.ID || len(again.Payload.Items) != len(got.Payload.Items) {
			t.Fatalf("%+v became %+v, %v", got, again, err)
		}
	})
}

func FuzzParseValue(f *testing.F) {
	f.Add([]byte("V 17 5 9 1760000000123 7\ncat:5\nahello"))
	f.Add([]byte("L 17 5 9 1760000000123 token"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, ok := lane.ParseValue(b)
		if !ok {
			return
		}
		header, _, _ := strings.Cut(string(b), "\n")
		if len(header) > 73 || !strings.HasSuffix(string(b), string(v.Data)) || strings.Count(header, " ") != 5 {
			t.Fatalf("%q was taken for a value: %+v", b, v)
		}
		if want := len(b) - len(header) - 1 - len(v.Data); len(strings.Join(v.Tags, "\n")) != want {
			t.Fatalf("tags %q, want %d bytes", v.Tags, want)
		}
	})
}
