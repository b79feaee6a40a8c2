package replica_test

import (
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// The database writes some values in another form than they came in: a repetition is none the less the same, and one other
// value is a conflict.
func TestLostChangesAreCompared(t *testing.T) {
	b := newBed(t, replica.Config{})
	base := map[string]string{
		"order": `"o"`, "long": `"l "`, "price": `"1.50"`, "ratio": `0.1`, "on": `true`, "tags": `[1, {"b": 2, "a": "x"}]`,
		"at": `"2024-02-03T04:05:06.120+02:00"`, "day": `"2024-02-03"`,
	}
	body := func(change, value string) string {
		out := `{"shop":"s","number":18446744073709551615`
		for name, v := range base {
			if name == change {
				v = value
			}
			if v != "" {
				out += `,"` + name + `":` + v
			}
		}
		return out + "}"
	}
	lost := func(version int64, body string) replica.Lost {
		t.Helper()
		return b.apply(t, b.event(t, "wide", version, schemas.Upsert, body)).Lost
	}
	if got := lost(5, body("", "")); got.Superseded+got.Conflicts != 0 {
		t.Errorf("of a new row: %+v", got)
	}
	for name, value := range map[string]string{
		"": "", "price": `"1.5"`, "ratio": `1e-1`, "tags": `[1,{"a":"x","b":2}]`, "at": `"2024-02-03T02:05:06.12Z"`,
	} {
		if got := lost(5, body(name, value)); got.Superseded+got.Conflicts != 0 {
			t.Errorf("of %s %s: %+v", name, value, got)
		}
	}
	for name, value := range map[string]string{
		"order": `"p"`, "long": `"l"`, "price": `"1.51"`, "ratio": `0.2`, "on": `false`, "tags": `[1,{"a":"x"}]`, "at": `"2024-02-03T02:05:06.13Z"`, "day": "",
	} {
		if got := lost(5, body(name, value)); got.Conflicts != 1 || got.Superseded != 0 {
			t.Errorf("of %s %s: %+v", name, value, got)
		}
	}
	if got := lost(4, body("", "")); got.Superseded != 1 || got.Conflicts != 0 {
		t.Errorf("of an older version: %+v", got)
	}
	if got := lost(6, strings.Replace(body("", ""), `"o"`, `"q"`, 1)); got.Superseded+got.Conflicts != 0 {
		t.Errorf("of a newer version: %+v", got)
	}
}
