package invalidation_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/invalidation/msgpack"
)

func TestRawValuesAreShared(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]byte{
		"like a header": []byte("V 1 2 3\n\x00\xff{"), "like a mark": []byte("\xc1raw\x00\xc1msgpack\x00"), "empty": {},
	} {
		r := withLane(t)
		loads := 0
		for range 2 {
			c, err := invalidation.NewCache(r.join(invalidation.Config{}), invalidation.CacheConfig[[]byte]{
				Dataset: "users", Codec: invalidation.Raw{},
				Load: func(_ context.Context, _ string, from invalidation.Source) (invalidation.Loaded[[]byte], error) {
					loads++
					return invalidation.Loaded[[]byte]{Value: want, Version: 1, Found: true, From: from}, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Get(t.Context(), "1"); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: Get gave %q, %v", name, got, err)
			}
			filled(t, c)
		}
		if loads != 1 {
			t.Errorf("%s: %d loads for two nodes, want 1", name, loads)
		}
	}
}

// renamed is JSON under another name, as after a change of the format.
type renamed struct{ invalidation.JSON[int] }

func (renamed) Name() string { return "json.2" }

// Bytes of one codec may well be a value of another: 49 in MessagePack is the JSON text 1, and the JSON text 7 is 55.
func TestEntriesOfAnotherCodecAreAMiss(t *testing.T) {
	t.Parallel()
	codecs := map[string]invalidation.Codec[int]{"json": nil, "msgpack": msgpack.Codec[int]{}, "json.2": renamed{}}
	for by, writer := range codecs {
		for of, reader := range codecs {
			if by == of {
				continue
			}
			t.Run(by+" read as "+of, func(t *testing.T) {
				t.Parallel()
				r := withLane(t)
				value, loads := 49, 0
				cache := func(codec invalidation.Codec[int]) *invalidation.Cache[int] {
					c, err := invalidation.NewCache(r.join(invalidation.Config{}), invalidation.CacheConfig[int]{
						Dataset: "users", Codec: codec,
						Load: func(_ context.Context, _ string, from invalidation.Source) (invalidation.Loaded[int], error) {
							loads++
							return invalidation.Loaded[int]{Value: value, Version: 1, Found: true, From: from}, nil
						},
					})
					if err != nil {
						t.Fatal(err)
					}
					return c
				}
				want := func(c *invalidation.Cache[int], all, unreadable int) {
					t.Helper()
					if got, err := c.Get(t.Context(), "1"); err != nil || got != value {
						t.Errorf("Get gave %d, %v, want %d", got, err, value)
					}
					filled(t, c)
					if s := c.Stats(); loads != all || s.Unreadable != int64(unreadable) {
						t.Errorf("%d loads, %d unreadable, want %d and %d", loads, s.Unreadable, all, unreadable)
					}
				}
				w, rd := cache(writer), cache(reader)
				want(w, 1, 0)
				want(rd, 2, 1)
				want(rd, 2, 1)            // kept
				want(cache(reader), 2, 0) // shared
				if got, err := cache(writer).GetMany(t.Context(), []string{"1"}); err != nil || got["1"] != value || loads != 3 {
					t.Errorf("GetMany gave %v, %v after %d loads", got, err, loads)
				}
			})
		}
	}
}

// An entry that cannot be decoded makes way, instead of sending every reader to the loader for as long as it lives.
func TestEntryThatCannotBeDecodedIsReplaced(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	wantGet(t, r.cache(r.join(invalidation.Config{})), "1", "1@1")
	key := lane.KeysOf(r.ns, 0).Value("user:1")
	raw, err := r.rdb.Get(t.Context(), key).Result()
	check(t, err)
	check(t, r.rdb.Set(t.Context(), key, strings.Replace(raw, `"1@1"`, `{"1"}`, 1), redis.KeepTTL).Err())
	c := r.cache(r.join(invalidation.Config{}))
	wantGet(t, c, "1", "1@1")
	if s := c.Stats(); s.Unreadable != 1 || s.Loads != 1 {
		t.Errorf("%d unreadable, %d loads, want one of each", s.Unreadable, s.Loads)
	}
	last := r.cache(r.join(invalidation.Config{}))
	wantGet(t, last, "1", "1@1")
	if s := last.Stats(); s.SharedHits != 1 {
		t.Errorf("%d shared hits, want 1", s.SharedHits)
	}
}

// named is a codec whose name a test chooses.
type named struct {
	invalidation.JSON[string]
	name string
}

func (n named) Name() string { return n.name }

func TestCodecNames(t *testing.T) {
	t.Parallel()
	n := withLane(t).join(invalidation.Config{})
	load := (&database{}).load
	for _, name := range []string{"", "Json", "a b", "a\x00", "seventeen-letters"} {
		_, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Load: load, Codec: named{name: name}})
		if !errors.Is(err, invalidation.ErrConfig) {
			t.Errorf("%q: %v, want ErrConfig", name, err)
		}
	}
}
