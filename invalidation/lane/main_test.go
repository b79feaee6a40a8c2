package lane_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation/lane"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// vectors reads a file of testdata/vectors.
func vectors[T any](t testing.TB, name string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(out) == 0 {
		t.Fatalf("%s: no vectors", name)
	}
	return out
}

// unbase64 returns the bytes of a vector's text.
func unbase64(t testing.TB, s string) string {
	t.Helper()
	enc, ok := strings.CutPrefix(s, "base64:")
	if !ok {
		return s
	}
	b, err := base64.StdEncoding.DecodeString(enc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// onBoth runs a test on a real Redis and on miniredis, each time in a namespace of its own.
func onBoth(t *testing.T, f func(t *testing.T, rdb *redis.Client, ns string)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		srv := testenv.Redis(t)
		f(t, srv.Client(t), srv.Namespace(t))
	})
	t.Run("miniredis", func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), MaxRetries: -1})
		t.Cleanup(func() {
			if err := rdb.Close(); err != nil {
				t.Error(err)
			}
		})
		f(t, rdb, "mini")
	})
}

// scripts prepares the scripts of a namespace.
func scripts(t testing.TB, rdb *redis.Client, cfg lane.Config) *lane.Scripts {
	t.Helper()
	s, err := lane.New(rdb, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
