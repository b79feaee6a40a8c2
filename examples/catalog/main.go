// Command catalog turns a Debian package index into events, one JSON object a line, for `freshet publish`:
//
//	apt-cache dumpavail > index-1
//	catalog -version 1 < index-1 | freshet publish packages
//
// With -base it writes only what changed since an older index, packages that vanished as deletions:
//
//	apt-cache dumpavail > index-2
//	catalog -version 2 -base index-1 < index-2 | freshet publish packages
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

func main() {
	version := flag.Int64("version", 1, "version of every event: give each index a greater one")
	base := flag.String("base", "", "the index that was published before; only differences are written")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *base, *version); err != nil {
		fmt.Fprintln(os.Stderr, "catalog:", err)
		os.Exit(1)
	}
}

// pkg is a package as the dataset "packages" wants it.
type pkg struct {
	Package       string   `json:"package"`
	Version       string   `json:"version"`
	Architecture  string   `json:"architecture"`
	Section       string   `json:"section,omitempty"`
	Priority      string   `json:"priority,omitempty"`
	Maintainer    string   `json:"maintainer,omitempty"`
	Homepage      string   `json:"homepage,omitempty"`
	Filename      string   `json:"filename,omitempty"`
	SHA256        string   `json:"sha256,omitempty"`
	InstalledSize *int64   `json:"installed_size,omitempty"`
	Size          *int64   `json:"size,omitempty"`
	Depends       string   `json:"depends,omitempty"`
	Description   string   `json:"description,omitempty"`
	Tags          []string `json:"tags,omitempty"`
}

type event struct {
	Dataset string `json:"dataset"`
	Key     string `json:"key"`
	Op      string `json:"op,omitempty"`
	Version int64  `json:"version"`
	Data    *pkg   `json:"data,omitempty"`
}

func run(in io.Reader, out io.Writer, base string, version int64) error {
	now, names, err := read(in)
	if err != nil {
		return err
	}
	old := map[string]pkg{}
	if base != "" {
		f, err := os.Open(base)
		if err != nil {
			return fmt.Errorf("open base: %w", err)
		}
		defer f.Close()
		if old, _, err = read(f); err != nil {
			return err
		}
	}
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, name := range names {
		p := now[name]
		if was, ok := old[name]; ok && same(was, p) {
			continue
		}
		if err := enc.Encode(event{Dataset: "packages", Key: name, Version: version, Data: &p}); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
	}
	var gone []string
	for name := range old {
		if _, ok := now[name]; !ok {
			gone = append(gone, name)
		}
	}
	slices.Sort(gone)
	for _, name := range gone {
		if err := enc.Encode(event{Dataset: "packages", Key: name, Op: "delete", Version: version}); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
	}
	return w.Flush()
}

func same(a, b pkg) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

// read returns the packages of an index by name and the names in their order. Where a name stands several times, the last
// stanza counts.
func read(in io.Reader) (map[string]pkg, []string, error) {
	br := bufio.NewReaderSize(in, 1<<20)
	pkgs, names := map[string]pkg{}, []string(nil)
	fields, last := map[string]string{}, ""
	flush := func() error {
		defer func() { fields, last = map[string]string{}, "" }()
		if fields["Package"] == "" {
			return nil
		}
		p, err := packageOf(fields)
		if err != nil {
			return err
		}
		if _, again := pkgs[p.Package]; !again {
			names = append(names, p.Package)
		}
		pkgs[p.Package] = p
		return nil
	}
	for n := 1; ; n++ {
		text, err := br.ReadString('\n')
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return nil, nil, fmt.Errorf("read line %d: %w", n, err)
		}
		text = strings.TrimRight(text, "\n")
		switch {
		case text == "":
			if err := flush(); err != nil {
				return nil, nil, fmt.Errorf("line %d: %w", n, err)
			}
		case text[0] == ' ' || text[0] == '\t':
			if last != "" {
				fields[last] += "\n" + strings.TrimSpace(text)
			}
		default:
			name, value, ok := strings.Cut(text, ":")
			if !ok {
				return nil, nil, fmt.Errorf("line %d is not a field", n)
			}
			last = name
			fields[name] = strings.TrimSpace(value)
		}
		if end {
			return pkgs, names, flush()
		}
	}
}

func packageOf(f map[string]string) (pkg, error) {
	p := pkg{
		Package: f["Package"], Version: f["Version"], Architecture: f["Architecture"], Section: f["Section"], Priority: f["Priority"],
		Maintainer: f["Maintainer"], Homepage: f["Homepage"], Filename: f["Filename"], SHA256: f["SHA256"], Depends: f["Depends"],
		Description: f["Description"],
	}
	for field, to := range map[string]**int64{"Installed-Size": &p.InstalledSize, "Size": &p.Size} {
		if f[field] == "" {
			continue
		}
		n, err := strconv.ParseInt(f[field], 10, 64)
		if err != nil {
			return p, fmt.Errorf("package %s: %s is not a number", p.Package, field)
		}
		*to = &n
	}
	if f["Tag"] != "" {
		for _, t := range strings.Split(f["Tag"], ",") {
			if t = strings.TrimSpace(t); t != "" {
				p.Tags = append(p.Tags, t)
			}
		}
	}
	return p, nil
}
