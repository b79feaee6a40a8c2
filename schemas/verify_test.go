package schemas_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/schemas"
)

// keysSchema has every kind of key property.
const keysSchema = `{"type":"object","properties":{
  "i": {"type":"integer"}, "u": {"type":"integer","minimum":0,"maximum":18446744073709551615}, "s": {"type":"string","maxLength":5},
  "b": {"type":"boolean"}, "t": {"type":"string","maxLength":9}, "v": {"type":"integer","minimum":-5,"maximum":255}, "x": {"type":"integer","maximum":100}}}`

// Verify and Check return the same errors for data that have the event's key, another one or none, whatever way it is written.
func TestVerifyComparesKeysAsCheckDoes(t *testing.T) {
	values := []string{
		`0`, `-0`, `0.0`, `-0.0`, `1`, `-1`, `1.0`, `10e-1`, `1.5`, `1e400`, `9223372036854775807`, `9223372036854775808`, `18446744073709551615`, `18446744073709551616`,
		`true`, `false`, `null`, `"0"`, `"1"`, `"true"`, `"k"`, `"\u006b"`, `"longer"`, `"a,b"`, `""`, `[1]`, `{"a":1}`,
	}
	keys := []string{"0", "1", "-1", "9223372036854775807", "18446744073709551615", "true", "false", "k", "longer", "a%2Cb", "", "01", "-0"}
	seen := map[string]int{}
	others := map[string][2]string{"i": {"7", "7"}, "u": {"8", "8"}, "s": {"k", `"k"`}, "b": {"true", "true"}, "t": {"m", `"m"`}} // in keys and in data
	for _, names := range [][]string{{"i"}, {"u"}, {"s"}, {"b"}, {"v"}, {"s", "i"}, {"i", "s"}, {"b", "u", "i"}, {"i", "u", "s", "b", "t"}} {
		list, restKey, rest := names[0], "", ""
		for _, n := range names[1:] {
			list += ", " + n
			restKey += "," + others[n][0]
			rest += `,"` + n + `":` + others[n][1]
		}
		other := strings.Replace(strings.Replace(rest, "7", "6", 1), "m", "n", 1)
		d := load(t, "dataset: d\nschema: s.json\nkey: ["+list+"]\nreplica: {columns: {v: {type: int}}}\n", keysSchema)
		for _, op := range []schemas.Op{schemas.Upsert, schemas.Delete} {
			for _, key := range keys {
				key += restKey
				for _, data := range slices.Concat(objects(names[0], values, rest), objects(names[0], values, other), []string{"", "{}", "[]", "{", `{"x":101,"` + names[0] + `":1}`}) {
					ev := schemas.Event{Dataset: "d", Key: key, Op: op, Version: 1, Data: []byte(data)}
					_, want := d.Check(&ev)
					if got := d.Verify(&ev); fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("key %v is %q, %s of %s: Verify returns %v, Check %v", names, key, op, data, got, want)
					}
					seen[fmt.Sprint(want)]++
				}
			}
		}
	}
	if len(seen) < 20 || seen["<nil>"] < 20 {
		t.Errorf("%d different answers, %d events accepted: the events show nothing", len(seen), seen["<nil>"])
	}
}

// objects are JSON objects with each value under a name.
func objects(name string, values []string, rest string) []string {
	list := make([]string, 0, len(values))
	for _, v := range values {
		list = append(list, `{"`+name+`":`+v+rest+`}`)
	}
	return list
}

// TestVerifyIsCheap pins what checking costs a publisher: no allocation.
func TestVerifyIsCheap(t *testing.T) {
	d := load(t, minimalYAML, fmt.Sprintf(benchSchema, ""))
	ev := benchEvent()
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Verify(&ev); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a check", n)
	}
}
