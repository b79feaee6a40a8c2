package schemas_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/schemas"
)

const keySchema = `{"type":"object","properties":{
  "s": {"type":"string","maxLength":400}, "t": {"type":"string","maxLength":200},
  "n": {"type":"integer"}, "u": {"type":"integer","minimum":0,"maximum":18446744073709551615}, "b": {"type":"boolean"}}}`

func keyed(t testing.TB, key, template string) *schemas.Dataset {
	t.Helper()
	return load(t, "dataset: d\nschema: s.json\nkey: ["+key+"]\ncache: {key: \""+template+"\"}\n", keySchema)
}

func TestFormatAndParseKey(t *testing.T) {
	for _, tc := range []struct {
		key    string
		values []any
		want   string
		parsed []any
	}{
		{"s", []any{"a,b%c d"}, "a,b%c d", []any{"a,b%c d"}},
		{"n", []any{42}, "42", []any{int64(42)}},
		{"n", []any{json.Number("42")}, "42", []any{int64(42)}},
		{"u", []any{json.Number("18446744073709551615")}, "18446744073709551615", []any{uint64(1<<64 - 1)}},
		{"n", []any{int64(-1 << 63)}, "-9223372036854775808", []any{int64(-1 << 63)}},
		{"u", []any{uint64(1<<64 - 1)}, "18446744073709551615", []any{uint64(1<<64 - 1)}},
		{"b", []any{true}, "true", []any{int64(1)}},
		{"b", []any{int64(0)}, "false", []any{int64(0)}},
		{"s, n, b", []any{"a,b%\n\x7f é", int32(7), false}, "a%2Cb%25%0A%7F é,7,false", []any{"a,b%\n\x7f é", int64(7), int64(0)}},
		{"s, t", []any{"", ""}, ",", []any{"", ""}},
	} {
		d := load(t, "dataset: d\nschema: s.json\nkey: ["+tc.key+"]\n", keySchema)
		got, err := d.FormatKey(tc.values...)
		if err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", tc.key, got, err, tc.want)
			continue
		}
		parsed, err := d.ParseKey(got)
		if err != nil {
			t.Errorf("%s: %v", tc.key, err)
		}
		if diff := cmp.Diff(tc.parsed, parsed); diff != "" {
			t.Errorf("%s: %s", tc.key, diff)
		}
		if again, err := d.FormatKey(parsed...); err != nil || again != got {
			t.Errorf("%s: parsed values format to %q, %v", tc.key, again, err)
		}
	}
}

func TestKeyRefuses(t *testing.T) {
	one := map[string][]string{
		"n":    {"", "042", "-0", "+1", "1.0", "1e3", " 1", "1_0", "9223372036854775808", "x", "-"},
		"u":    {"-1", "18446744073709551616", "00"},
		"b":    {"1", "TRUE", ""},
		"s":    {"", "\xff", strings.Repeat("x", 401), strings.Repeat("ä", 257)},
		"s, n": {"a", "a,1,2", "a,", "%41,1", "%2c,1", "%,1", "%2,1", "%zz,1", "a\n,1", "%FF,1", ",01"},
	}
	for key, list := range one {
		d := load(t, "dataset: d\nschema: s.json\nkey: ["+key+"]\n", keySchema)
		for _, k := range list {
			if _, err := d.ParseKey(k); schemas.ReasonOf(err) != schemas.ReasonKey || !errors.Is(err, schemas.ErrInvalid) {
				t.Errorf("%s: %q: got %v", key, k, err)
			}
			if _, err := d.CacheKey(k); err == nil {
				t.Errorf("%s: %q has a cache key", key, k)
			}
		}
	}
	d := load(t, "dataset: d\nschema: s.json\nkey: [s, n]\n", keySchema)
	for _, values := range [][]any{{}, {"a"}, {"a", "1"}, {1, 1}, {"a", 1.0}, {"a", nil}, {"a", true}, {"a", json.Number("1.0")}, {"a", json.Number("1e3")}, {json.Number("1"), 1}, {"\xff", 1}, {strings.Repeat(",", 400), 1}} {
		if k, err := d.FormatKey(values...); err == nil {
			t.Errorf("%v: formatted as %q", values, k)
		}
	}
}

func TestCacheKey(t *testing.T) {
	long := sha256.Sum256([]byte("user:" + strings.Repeat("%3A", 400) + ":x"))
	for _, tc := range []struct{ key, template, in, want string }{
		{"n", "user:{n}", "42", "user:42"},
		{"s", "user:{s}", "a@x", "user:a@x"},
		{"s", "user:{s}", "a:{b} %\n\x7fé,", "user:a%3A%7Bb%7D%20%25%0A%7Fé,"},
		{"s, n", "o:{n}:{s}:x", "a%2Cb,7", "o:7:a,b:x"},
		{"s", "user:{s}:x", strings.Repeat(":", 400), "user:%." + base64.RawURLEncoding.EncodeToString(long[:])},
	} {
		d := keyed(t, tc.key, tc.template)
		got, err := d.CacheKey(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		if got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	if got, err := load(t, minimalYAML, wideSchema).CacheKey("42"); got != "" || err != nil {
		t.Errorf("without a cache section: %q, %v", got, err)
	}
}

// drawText draws texts that are likely to meet the special bytes.
func drawText(maxRunes int) *rapid.Generator[string] {
	return rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune(",:%{} \n\x7f2Ca")), rapid.Rune()), 0, maxRunes, 400)
}

func TestDistinctKeysHaveDistinctNames(t *testing.T) {
	sets := []*schemas.Dataset{
		keyed(t, "s, t", "x:{s}:{t}"), keyed(t, "t, s, n", "x-{s}:a:b{t}c:{n}"), keyed(t, "s", "x:{s}"),
	}
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom(sets).Draw(t, "dataset")
		draw := func(label string) (string, []any, bool) {
			var values []any
			for _, name := range d.Key {
				if name == "n" {
					values = append(values, rapid.Int64().Draw(t, label+name))
				} else {
					values = append(values, drawText(60).Draw(t, label+name))
				}
			}
			key, err := d.FormatKey(values...)
			return key, values, err == nil
		}
		k1, v1, ok1 := draw("1")
		k2, v2, ok2 := draw("2")
		if !ok1 || !ok2 {
			return // longer than 512 bytes, or empty
		}
		same := cmp.Equal(v1, v2)
		if (k1 == k2) != same {
			t.Fatalf("%q and %q from %q and %q", k1, k2, v1, v2)
		}
		if back, err := d.ParseKey(k1); err != nil || !cmp.Equal(back, v1) {
			t.Fatalf("%q parses to %q, %v; want %q", k1, back, err, v1)
		}
		c1, err1 := d.CacheKey(k1)
		c2, err2 := d.CacheKey(k2)
		if err1 != nil || err2 != nil || (c1 == c2) != same {
			t.Fatalf("cache keys %q (%v) and %q (%v)", c1, err1, c2, err2)
		}
		if len(c1) > 512 || strings.ContainsAny(c1, "{} \n\x7f") {
			t.Fatalf("cache key %q", c1)
		}
	})
}

// TestDatasetsNeverShareNames: two templates that load together never give one name, whatever the keys.
func TestDatasetsNeverShareNames(t *testing.T) {
	piece := rapid.StringOfN(rapid.SampledFrom([]rune("ab:1")), 0, 3, -1)
	rapid.Check(t, func(t *rapid.T) {
		files := map[string]string{"s.json": keySchema}
		for _, name := range []string{"a", "b"} {
			key := rapid.SampledFrom([]string{"s", "n", "b"}).Draw(t, "key "+name)
			text := "k" + piece.Draw(t, "before "+name) + "{" + key + "}" + piece.Draw(t, "after "+name)
			files[name+".yaml"] = fmt.Sprintf("dataset: %s\nschema: s.json\nkey: [%s]\ncache: {key: %q}\n", name, key, text)
		}
		set, err := schemas.LoadDatasets(folder(files))
		if err != nil {
			return
		}
		names := map[string]string{}
		texts := []string{"true", "false", "1", "-1", "11", "0", "a", "b", "ab", "ba", "a1", "1a", "aa", "bb", "aaa", "b1", "1b"}
		for _, d := range set.All() {
			for _, k := range texts {
				n, err := d.CacheKey(k)
				if err != nil {
					continue
				}
				if other, taken := names[n]; taken && other != d.Name {
					t.Fatalf("%q names records of %s and %s: %v", n, other, d.Name, files)
				}
				names[n] = d.Name
			}
		}
	})
}
