package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/schemas"
)

func TestAdoptVersionsAreChecked(t *testing.T) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"a.yaml": {Data: []byte("dataset: a\nschema: s.json\nkey: [id]\n")},
		"b.yaml": {Data: []byte("dataset: b\nschema: s.json\nkey: [id]\nversion: {column: rev}\n")},
		"s.json": {Data: []byte(`{"type":"object","properties":{"id":{"type":"integer"},"rev":{"type":"integer"}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"a=7": "", "a=0": "from 1 to 2^53-2", "a=x": "from 1 to 2^53-2", "a": "from 1 to 2^53-2", "c=7": "no such dataset", "b=7": "versions are in column rev",
	} {
		f := datasetFlags{adopt: true, adoptVersion: []string{text}}
		versions, err := f.readVersions(set)
		if want == "" && (err != nil || versions["a"] != 7) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v and error %v, want %q", text, versions, err, want)
		}
	}
	f := datasetFlags{adoptVersion: []string{"a=7"}}
	if _, err := f.readVersions(set); err == nil || !strings.Contains(err.Error(), "belongs to --adopt") {
		t.Errorf("without --adopt: %v", err)
	}
}
