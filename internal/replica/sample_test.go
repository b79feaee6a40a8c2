package replica_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// A walk through a table meets every row once, whatever the page, and versions are found by the keys that it returns.
func TestKeysAndVersions(t *testing.T) {
	b := newBed(t, replica.Config{})
	wide := dataset(t, "wide")
	want := map[string]int64{}
	var changes []*replica.Change
	for i, shop := range []string{"a", "a", "a", "b", "B ", "ü,%"} {
		number := uint64(i)
		if i == 2 {
			number = 1<<64 - 1
		}
		key, err := wide.FormatKey(shop, number)
		if err != nil {
			t.Fatal(err)
		}
		want[key] = int64(i + 1)
		changes = append(changes, b.event(t, "wide", int64(i+1), schemas.Upsert, fmt.Sprintf(`{"shop":%q,"number":%d}`, shop, number)))
	}
	b.apply(t, changes...)
	b.apply(t, b.item(t, 9, 4, "x"), b.item(t, 10, 4, "x"), b.gone(t, 11, 7))
	items := dataset(t, "items")
	for page := 1; page <= len(want)+1; page++ {
		got := map[string]int64{}
		for after := ""; ; {
			keys, err := b.Rows.Keys(t.Context(), wide, after, page)
			if err != nil {
				t.Fatal(err)
			}
			versions, err := b.Rows.Versions(t.Context(), wide, append(keys, "nobody,1"))
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				if _, twice := got[k]; twice {
					t.Errorf("pages of %d: %q comes twice", page, k)
				}
				got[k] = versions[k]
			}
			if len(versions) != len(keys) {
				t.Errorf("versions of %q: %v", keys, versions)
			}
			if len(keys) < page {
				break
			}
			after = keys[page-1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", page, diff)
		}
	}
	keys, err := b.Rows.Keys(t.Context(), items, "9", 5)
	if diff := cmp.Diff([]string{"10", "11"}, keys); diff != "" || err != nil { // by number, and a deleted row is one
		t.Errorf("%v %s", err, diff)
	}
	versions, err := b.Rows.Versions(t.Context(), items, []string{"11", "9", "12"})
	if diff := cmp.Diff(map[string]int64{"11": 7, "9": 4}, versions); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := b.Rows.Versions(t.Context(), items, []string{"x"}); err == nil {
		t.Error("a key that is none was taken")
	}
	if applied, err := b.Rows.Applied(t.Context(), "freshet.items"); err != nil || len(applied) != 0 {
		t.Errorf("of a topic that no one observed: %v, %v", applied, err)
	}
	if _, err := b.Topics.Observe(t.Context(), "freshet.items", "kR3a_x", 1); err != nil {
		t.Fatal(err)
	}
	if applied, err := b.Rows.Applied(t.Context(), "freshet.items"); err != nil || applied[src] != b.off.Load() || len(applied) != 1 {
		t.Errorf("applied up to %v, %v; want %d", applied, err, b.off.Load())
	}
}
