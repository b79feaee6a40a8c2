package invalidation_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/invalidation/msgpack"
)

type person struct{ Name string }

// grown is person in a later release.
type grown struct{ Name, Email string }

// renamedField is person for a program that calls its field otherwise in JSON.
type renamedField struct {
	Name string `json:"n"`
}

// twin is person in another program.
type twin struct{ Name string }

type tree struct {
	Name  string
	Sub   []*tree
	Other map[string]tree
	At    time.Time
	hid   int
}

// list contains itself without a struct.
type list []list

// opaque writes itself.
type opaque struct{ Name string }

func (o opaque) MarshalText() ([]byte, error)     { return []byte(o.Name), nil }
func (o *opaque) UnmarshalText(text []byte) error { o.Name = string(text); return nil }

type deepA struct{ In struct{ A, B int } }

type deepB struct{ In struct{ A int } }

// formCache is a cache of a node of its own, that loads v.
func formCache[V any](r *rig, v V, cfg invalidation.CacheConfig[V]) *invalidation.Cache[V] {
	r.t.Helper()
	cfg.Dataset = "users"
	cfg.Load = func(_ context.Context, _ string, from invalidation.Source) (invalidation.Loaded[V], error) {
		return invalidation.Loaded[V]{Value: v, Version: 1, Found: true, From: from}, nil
	}
	c, err := invalidation.NewCache(r.join(invalidation.Config{}), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// sharedForm reports whether what a cache of A stored is a hit for one of B, and what that returns.
func sharedForm[A, B any](t *testing.T, a A, b B, ca invalidation.CacheConfig[A], cb invalidation.CacheConfig[B]) (got B, hit bool) {
	t.Helper()
	r := withLane(t)
	first := formCache(r, a, ca)
	if _, err := first.Get(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	filled(t, first)
	c := formCache(r, b, cb)
	got, err := c.Get(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	return got, c.Stats().SharedHits == 1
}

// Two programs with different types of one dataset: the one with the greater type must not get the entries of the other, whose codec skipped
// the fields that it does not know.
func TestFormsKeepFieldsFromBeingLost(t *testing.T) {
	t.Parallel()
	ada := grown{"Ada", "ada@example.com"}
	if got, hit := sharedForm(t, person{"Ada"}, ada, invalidation.CacheConfig[person]{}, invalidation.CacheConfig[grown]{}); got != ada || hit {
		t.Errorf("a later release got %+v, hit %t", got, hit)
	}
	if got, hit := sharedForm(t, person{"Ada"}, ada, invalidation.CacheConfig[person]{Codec: msgpack.Codec[person]{}}, invalidation.CacheConfig[grown]{Codec: msgpack.Codec[grown]{}}); got != ada || hit {
		t.Errorf("by MessagePack a later release got %+v, hit %t", got, hit)
	}
	if got, hit := sharedForm(t, person{"Ada"}, renamedField{"Ada"}, invalidation.CacheConfig[person]{}, invalidation.CacheConfig[renamedField]{}); got.Name != "Ada" || hit {
		t.Errorf("another tag: got %+v, hit %t", got, hit)
	}
	if _, hit := sharedForm(t, opaque{"Ada"}, person{"Ada"}, invalidation.CacheConfig[opaque]{}, invalidation.CacheConfig[person]{}); hit {
		t.Error("a type that writes itself: a hit")
	}
	if _, hit := sharedForm(t, &deepA{}, &deepB{}, invalidation.CacheConfig[*deepA]{}, invalidation.CacheConfig[*deepB]{}); hit {
		t.Error("another field of a field: a hit")
	}
	if got, hit := sharedForm(t, []person{{"Ada"}}, []grown{ada}, invalidation.CacheConfig[[]person]{}, invalidation.CacheConfig[[]grown]{}); got[0] != ada || hit {
		t.Errorf("slices: got %+v, hit %t", got, hit)
	}
}

// Programs whose types look the same share, and so do those that say that they may.
func TestFormsOfTheSameShapeShare(t *testing.T) {
	t.Parallel()
	if got, hit := sharedForm(t, person{"Ada"}, twin{"Bob"}, invalidation.CacheConfig[person]{}, invalidation.CacheConfig[twin]{}); got.Name != "Ada" || !hit {
		t.Errorf("the same shape: got %+v, hit %t", got, hit)
	}
	now := time.Now().UTC()
	if got, hit := sharedForm(t, tree{Name: "a", At: now, hid: 1}, tree{}, invalidation.CacheConfig[tree]{}, invalidation.CacheConfig[tree]{}); got.Name != "a" || !got.At.Equal(now) || !hit {
		t.Errorf("a type that contains itself: got %+v, hit %t", got, hit)
	}
	if _, hit := sharedForm(t, list{{}}, list{{}}, invalidation.CacheConfig[list]{}, invalidation.CacheConfig[list]{}); !hit {
		t.Error("a list of itself: no hit")
	}
	if got, hit := sharedForm(t, opaque{"Ada"}, opaque{}, invalidation.CacheConfig[opaque]{}, invalidation.CacheConfig[opaque]{}); got.Name != "Ada" || !hit {
		t.Errorf("a type that writes itself: got %+v, hit %t", got, hit)
	}
	if got, hit := sharedForm(t, grown{"Ada", "x"}, person{"Bob"}, invalidation.CacheConfig[grown]{Form: "users.1"}, invalidation.CacheConfig[person]{Form: "users.1"}); got.Name != "Ada" || !hit {
		t.Errorf("the same Form: got %+v, hit %t", got, hit)
	}
	if _, hit := sharedForm(t, person{"Ada"}, person{"Ada"}, invalidation.CacheConfig[person]{Form: "users.1"}, invalidation.CacheConfig[person]{Form: "users.2"}); hit {
		t.Error("another Form: a hit")
	}
}

// Programs in other languages write JSON without a form; a cache that says so shares with them.
func TestFormNoneIsPlainJSON(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg   invalidation.CacheConfig[person]
		plain bool
	}{
		"none": {invalidation.CacheConfig[person]{Form: invalidation.FormNone}, true}, "derived": {invalidation.CacheConfig[person]{}, false},
		"named": {invalidation.CacheConfig[person]{Form: "users.1"}, false},
	} {
		r := withLane(t)
		c := formCache(r, person{"Ada"}, tc.cfg)
		if _, err := c.Get(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
		filled(t, c)
		raw, err := r.rdb.Get(t.Context(), lane.KeysOf(r.ns, 0).Value("user:1")).Bytes()
		v, ok := lane.ParseValue(raw)
		if err != nil || !ok || json.Valid(v.Data) != tc.plain || !tc.plain && !strings.HasPrefix(string(v.Data), "\xc1json;") {
			t.Errorf("%s: the entry holds %q, %v", name, v.Data, err)
		}
	}
}

func TestFormNames(t *testing.T) {
	t.Parallel()
	n := withLane(t).join(invalidation.Config{})
	for _, form := range []string{"a b", "a;b", "ä", strings.Repeat("x", 33)} {
		_, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Load: (&database{}).load, Form: form})
		if !errors.Is(err, invalidation.ErrConfig) {
			t.Errorf("%q: %v, want ErrConfig", form, err)
		}
	}
	_, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Load: (&database{}).load, Form: "x", LocalOnly: true})
	if !errors.Is(err, invalidation.ErrConfig) || !strings.Contains(err.Error(), "Form") {
		t.Errorf("with LocalOnly: %v, want ErrConfig", err)
	}
}
