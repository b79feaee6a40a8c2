package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/draft"
)

// initReport is what init prints.
type initReport struct {
	// Written are new files, Unchanged those that the draft equals, Differs those that were left alone.
	Written   []string   `json:"written"`
	Unchanged []string   `json:"unchanged"`
	Differs   []initDiff `json:"differs"`
	// Notes are what the reader has to know, Problems the tables that have no draft.
	Notes    []string `json:"notes"`
	Problems []string `json:"problems"`
	// Next are the steps that follow, for people.
	Next []string `json:"next"`
}

// initDiff is a file that exists and differs from its draft.
type initDiff struct {
	File string `json:"file"`
	// Diff has a line for each of both, with -, + or a space before it; - is what the file has.
	Diff string `json:"diff"`
}

// draft drafts the tables, and reports those that it cannot.
func (r *initReport) draft(f initFlags, list []chosen) []*draft.Draft {
	var drafts []*draft.Draft
	for _, c := range list {
		name := c.cfg.Dataset
		if name == "" {
			name = strings.ToLower(c.table.Name)
		}
		if slices.ContainsFunc(drafts, func(d *draft.Draft) bool { return d.Dataset == name }) {
			r.Problems = append(r.Problems, fmt.Sprintf("%s.%s: dataset %s is drafted already; write --tables %[1]s.%[2]s=NAME", c.table.Database, c.table.Name, name))
			continue
		}
		c.cfg.Known = knownProperties(filepath.Join(f.out, name+".json"))
		d, err := draft.New(c.table, c.cfg)
		if err != nil {
			r.Problems = append(r.Problems, err.Error())
			continue
		}
		for _, n := range d.Notes {
			r.Notes = append(r.Notes, d.Dataset+": "+n)
		}
		drafts = append(drafts, d)
	}
	return drafts
}

// knownProperties are those of a schema file; nil if there is none.
func knownProperties(file string) []string {
	text, err := os.ReadFile(file)
	var schema struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err != nil || json.Unmarshal(text, &schema) != nil {
		return nil
	}
	names := []string{}
	for name := range schema.Properties {
		names = append(names, name)
	}
	return names
}

// write writes the files that do not exist.
func (r *initReport) write(dir string, drafts []*draft.Draft) error {
	if len(drafts) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // others read declarations
		return fmt.Errorf("make folder: %w", err)
	}
	for _, d := range drafts {
		for name, text := range map[string]string{d.Dataset + ".json": d.JSON, d.Dataset + ".yaml": d.YAML} {
			if err := r.writeFile(filepath.Join(dir, name), text); err != nil {
				return err
			}
		}
	}
	slices.Sort(r.Written)
	slices.Sort(r.Unchanged)
	slices.SortFunc(r.Differs, func(a, b initDiff) int { return strings.Compare(a.File, b.File) })
	return nil
}

func (r *initReport) writeFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // as above
	if errors.Is(err, fs.ErrExist) {
		have, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("compare with the draft: %w", err)
		}
		if string(have) == text {
			r.Unchanged = append(r.Unchanged, name)
		} else {
			r.Differs = append(r.Differs, initDiff{name, diffLines(string(have), text)})
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("write draft: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write draft: %w", err)
	}
	r.Written = append(r.Written, name)
	return nil
}

// diffLines compares two texts line by line by their longest common sequence of lines.
func diffLines(have, want string) string {
	a, b := strings.Split(strings.TrimSuffix(have, "\n"), "\n"), strings.Split(strings.TrimSuffix(want, "\n"), "\n")
	common := make([][]int, len(a)+1) // length of the common sequence from i and j on
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	return out.String()
}

func (r *initReport) print(w io.Writer) {
	for _, name := range r.Written {
		fmt.Fprintf(w, "wrote %s\n", name)
	}
	for _, name := range r.Unchanged {
		fmt.Fprintf(w, "%s is up to date\n", name)
	}
	for _, d := range r.Differs {
		fmt.Fprintf(w, "%s differs from the draft and was left alone (- the file, + the draft):\n%s", d.File, d.Diff)
	}
	if len(r.Differs) > 0 {
		fmt.Fprintln(w, "Take over the lines with + that you want, then run freshet schema compat OLD NEW and freshet migrate datasets.")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	for _, text := range r.Problems {
		fmt.Fprintf(w, "PROBLEM %s\n", text)
	}
	if len(r.Next) > 0 {
		fmt.Fprintln(w)
	}
	for _, line := range r.Next {
		fmt.Fprintln(w, line)
	}
}
