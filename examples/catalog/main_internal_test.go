package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const older = `Package: a
Version: 1
Architecture: all
Size: 10
Description: first line
 second line

Package: b
Version: 1
Architecture: all

Package: b
Version: 2
Architecture: all
Tag: x::y, z

Package: c
Version: 1
Architecture: all
`

const newer = `Package: a
Version: 1
Architecture: all
Size: 10
Description: first line
 second line

Package: b
Version: 3
Architecture: all

Package: d
Version: 1
Architecture: all`

func convert(t *testing.T, in, base string, version int64) string {
	t.Helper()
	path := ""
	if base != "" {
		path = filepath.Join(t.TempDir(), "base")
		if err := os.WriteFile(path, []byte(base), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := run(strings.NewReader(in), &out, path, version); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestWholeIndex(t *testing.T) {
	want := `{"dataset":"packages","key":"a","version":1,"data":{"package":"a","version":"1","architecture":"all","size":10,"description":"first line\nsecond line"}}
{"dataset":"packages","key":"b","version":1,"data":{"package":"b","version":"2","architecture":"all","tags":["x::y","z"]}}
{"dataset":"packages","key":"c","version":1,"data":{"package":"c","version":"1","architecture":"all"}}
`
	if got := convert(t, older, "", 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestOnlyDifferences(t *testing.T) {
	want := `{"dataset":"packages","key":"b","version":2,"data":{"package":"b","version":"3","architecture":"all"}}
{"dataset":"packages","key":"d","version":2,"data":{"package":"d","version":"1","architecture":"all"}}
{"dataset":"packages","key":"c","op":"delete","version":2}
`
	if got := convert(t, newer, older, 2); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
