package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReferenceHasEverySetting fails for a setting whose group has no chapter.
func TestReferenceHasEverySetting(t *testing.T) {
	var page, sample bytes.Buffer
	if err := WriteReference(&page); err != nil {
		t.Fatal(err)
	}
	if err := WriteSample(&sample); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings() {
		if n := strings.Count(page.String(), "| `"+s.key+"` |"); n != 1 {
			t.Errorf("the reference has %s %d times", s.key, n)
		}
		if !strings.Contains(sample.String(), "# "+s.help+"\n") {
			t.Errorf("the sample lacks %s", s.key)
		}
	}
}

// TestSampleSetsEveryDefault loads the sample: each value that is no secret comes from it, and equals the default.
func TestSampleSetsEveryDefault(t *testing.T) {
	var sample bytes.Buffer
	if err := WriteSample(&sample); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "freshet.yaml")
	if err := os.WriteFile(path, sample.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(Source{File: path})
	if err != nil {
		t.Fatalf("%v\n%s", err, sample.String())
	}
	want, err := Load(Source{})
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.Values() {
		w, secret := want.Values()[i], settings()[i].secret
		if v.Value != w.Value {
			t.Errorf("%s is %q, the default is %q", v.Key, v.Value, w.Value)
		}
		if from := v.Origin == "file "+path; from == secret {
			t.Errorf("%s comes from %s", v.Key, v.Origin)
		}
	}
}
