package livefile_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/livefile"
)

// open opens a file that must not hold "bad", and returns a function that writes it without any change of its time.
func open(t *testing.T, set *livefile.Set, text string) (*livefile.Value[string], func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	at := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	v, err := livefile.Open(set, "some.secret_file", func(contents [][]byte) (string, error) {
		if text := string(contents[0]); !strings.Contains(text, "bad") {
			return text, nil
		}
		return "", errors.New("it is bad")
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return v, write
}

func TestContentOfEqualSizeAndTimeIsSeen(t *testing.T) {
	v, write := open(t, &livefile.Set{}, "aaaa")
	write("bbbb")
	if got := v.Get(); got != "bbbb" {
		t.Errorf("got %q", got)
	}
}

func TestWhatCannotBeUsedIsReportedAndKeepsTheValue(t *testing.T) {
	var set livefile.Set
	var log bytes.Buffer
	v, write := open(t, &set, "one")
	set.Log(slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		write("bad")
		if got := v.Get(); got != "one" {
			t.Errorf("a bad file: got %q", got)
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log:\n%s", n, &log)
	}
	if got := set.Problems(); len(got) != 1 || !strings.Contains(got[0], "some.secret_file: it is bad; the previous content stays in use") {
		t.Errorf("problems: %q", got)
	}
	write("one")
	if got := set.Problems(); len(got) != 0 || v.Get() != "one" {
		t.Errorf("after the previous content came back: %q, %q", got, v.Get())
	}
	write("two")
	if got := v.Get(); got != "two" {
		t.Errorf("after a good one: got %q", got)
	}
}

func TestMissingFile(t *testing.T) {
	var set livefile.Set
	parse := func(contents [][]byte) (string, error) { return string(contents[0]), nil }
	path := filepath.Join(t.TempDir(), "secret")
	if _, err := livefile.Open(&set, "some.secret_file", parse, path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "some.secret_file") {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := livefile.Open(&set, "some.secret_file", parse, path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := livefile.Open(&set, "some.secret_file", parse, path); err != nil || again != v {
		t.Errorf("opened again: another value, %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if st := set.States(); v.Get() != "x" || len(st) != 1 || !errors.Is(st[0].Err, os.ErrNotExist) {
		t.Errorf("without the file: %q, %+v", v.Get(), st)
	}
}
