package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
)

// The Debian package index: tens of thousands of records that no one here wrote, through the commands that a user types.

// props is a record as its properties.
type props = map[string]any

func TestDebianPackageIndex(t *testing.T) {
	index := packageIndex(t)
	topic := testenv.Kafka(t).Topic(t)
	w := newWorld(t, testenv.Redis(t), catalogFiles(t, topic))
	w.startWorker()

	dir := t.TempDir()
	catalog := filepath.Join(dir, "catalog")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", catalog, "github.com/freshet/freshet/examples/catalog").CombinedOutput(); err != nil {
		t.Fatalf("build catalog: %v\n%s", err, out)
	}
	first := filepath.Join(dir, "index-1")
	writeFile(t, first, index)
	c := w.catalogNode()

	lines := runCatalog(t, catalog, index, "-version", "1")
	want := map[string]props{}
	fold(t, want, lines)
	w.publishFile(t, dir, lines)
	w.compareCatalog(t, c, want)

	lines = runCatalog(t, catalog, changedIndex(index), "-version", "2", "-base", first)
	changes := bytes.Count(lines, []byte("\n"))
	if changes < len(want)/20 || changes > len(want)/2 {
		t.Fatalf("%d changes between the two indexes of %d packages", changes, len(want))
	}
	fold(t, want, lines)
	w.publishFile(t, dir, lines)
	w.compareCatalog(t, c, want)
}

func packageIndex(t *testing.T) []byte {
	t.Helper()
	dump := func() []byte {
		out, err := exec.CommandContext(t.Context(), "apt-cache", "dumpavail").Output()
		if err != nil {
			t.Skipf("SKIPPED: no Debian package index on this machine: %v", err)
		}
		return out
	}
	const few = 1 << 20 // bytes of an index that was never fetched
	index := dump()
	if len(index) < few && os.Geteuid() == 0 {
		_ = exec.CommandContext(t.Context(), "apt-get", "update", "-qq").Run() // what it brought shows below
		index = dump()
	}
	if len(index) < few {
		t.Skip("SKIPPED: the Debian package index was never fetched on this machine: run apt-get update")
	}
	return index
}

func catalogFiles(t *testing.T, topic string) map[string]string {
	t.Helper()
	dir := filepath.Join("..", "..", "examples", "catalog", "datasets")
	files := map[string]string{}
	for _, name := range []string{"packages.yaml", "packages.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	files["packages.yaml"] += "topic: " + topic + "\n"
	return files
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func runCatalog(t *testing.T, bin string, index []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Stdin = bytes.NewReader(index)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("catalog: %v\n%s", err, &errOut)
	}
	return out
}

// changedIndex is a later day: every tenth package has another version, every fiftieth is gone, and some are new.
func changedIndex(index []byte) []byte {
	var out bytes.Buffer
	for i, stanza := range strings.Split(string(index), "\n\n") {
		switch {
		case i%50 == 7:
			continue
		case i%10 == 3:
			stanza = strings.Replace(stanza, "\nVersion: ", "\nVersion: 1:", 1)
		}
		out.WriteString(stanza + "\n\n")
	}
	for i := range 200 {
		fmt.Fprintf(&out, "Package: freshet-new-%d\nVersion: 1.0\nArchitecture: all\nDescription: Größe %d, 新, \\ \"quoted\"\n\n", i, i)
	}
	return out.Bytes()
}

// fold applies event lines to want, as the replica should.
func fold(t *testing.T, want map[string]props, lines []byte) {
	t.Helper()
	sc := bufio.NewScanner(bytes.NewReader(lines))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var e struct {
			Key, Op string
			Data    json.RawMessage
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Op == "delete" {
			delete(want, e.Key)
			continue
		}
		want[e.Key] = decodeProps(t, e.Data)
	}
}

func decodeProps(t *testing.T, b []byte) props {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var p props
	if err := dec.Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// publishFile publishes lines with the command, and wants every one of them taken.
func (w *world) publishFile(t *testing.T, dir string, lines []byte) {
	t.Helper()
	path := filepath.Join(dir, "events.ndjson")
	writeFile(t, path, lines)
	out, errOut, code := w.run("", "publish", "packages", "--input", path)
	if code != 0 {
		t.Fatalf("publish: exit code %d\n%s%.2000s", code, out, errOut)
	}
	if want := fmt.Sprintf("published %d of %[1]d lines", bytes.Count(lines, []byte("\n"))); !strings.Contains(out, want) {
		t.Fatalf("publish printed %q, want %q", out, want)
	}
	t.Log(strings.TrimSpace(out))
}

func (w *world) catalogNode() *invalidation.Cache[props] {
	w.t.Helper()
	n, err := invalidation.Join(w.t.Context(), w.redis.Client(w.t), invalidation.Config{Namespace: w.ns, Datasets: w.datasets})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.Close() })
	d, _ := w.datasets.Get("packages")
	c, err := invalidation.NewCache(n, invalidation.CacheConfig[props]{Dataset: "packages", Load: func(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[props], error) {
		row, err := w.replica.Rows.Get(ctx, d, key)
		out := invalidation.Loaded[props]{Version: row.Version, Found: row.Found && !row.Deleted, From: invalidation.Primary}
		if err == nil && out.Found {
			out.Value = row.Properties(d)
		}
		return out, err
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// compareCatalog waits until the table has want's packages and no others, and then reads each through the cache and
// compares every property: once for the loader, once for what was cached.
func (w *world) compareCatalog(t *testing.T, c *invalidation.Cache[props], want map[string]props) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		var live int
		if err := w.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM packages WHERE _deleted = 0").Scan(&live); err != nil {
			return err
		}
		if live != len(want) {
			return fmt.Errorf("%d live rows, want %d", live, len(want))
		}
		return w.sameCatalog(ctx, c, want)
	})
	if err := w.sameCatalog(t.Context(), c, want); err != nil {
		t.Error(err)
	}
	var gone []string
	rows, err := w.db.QueryContext(t.Context(), "SELECT package FROM packages WHERE _deleted = 1")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		gone = append(gone, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range gone {
		if _, err := c.Get(t.Context(), name); !errors.Is(err, invalidation.ErrNotFound) {
			t.Errorf("package %s is gone, the cache says %v", name, err)
		}
	}
	st := c.Stats()
	t.Logf("%d packages compared, %d gone; cache: %d loads, %d shared hits, %d local hits", len(want), len(gone), st.Loads, st.SharedHits, st.LocalHits)
}

func (w *world) sameCatalog(ctx context.Context, c *invalidation.Cache[props], want map[string]props) error {
	g, ctx := errgroup.WithContext(ctx)
	for part := range slices.Chunk(slices.Sorted(maps.Keys(want)), len(want)/8+1) {
		g.Go(func() error {
			for _, name := range part {
				got, err := c.Get(ctx, name)
				if err != nil {
					return fmt.Errorf("package %s: %w", name, err)
				}
				if a, b := canonical(got), canonical(want[name]); a != b {
					return fmt.Errorf("package %s: got %.300s, want %.300s", name, a, b)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// canonical is a record as JSON with sorted names and without absent properties.
func canonical(p props) string {
	p = maps.Clone(p)
	maps.DeleteFunc(p, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
