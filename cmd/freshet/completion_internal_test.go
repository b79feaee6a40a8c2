package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestShellsCompleteNames(t *testing.T) {
	environ := []string{"FRESHET_DATASETS=../../examples/shop/datasets"}
	for _, tc := range []struct{ line, want string }{
		{"inspect|", "orders products users"},
		{"inspect|users|", ""},
		{"verify|users|", "orders products users"},
		{"replay|start|", "orders products users"},
		{"partitions|restart|", "freshet.orders freshet.products freshet.users"},
		{"deadletters|list|--dataset|", "orders products users"},
		{"deadletters|redrive|--topic|", "freshet.orders freshet.products freshet.users"},
		{"grants|--role|", "migrate outbox publisher relay backfill worker admin serve node"},
	} {
		out, _, code := freshet(t, environ, append([]string{"__complete"}, strings.Split(tc.line, "|")...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); code != 0 || got != tc.want {
			t.Errorf("%s: %q, want %q", tc.line, got, tc.want)
		}
	}
}

// TestHelpGroupsEveryCommand fails for a command that no heading has, apart from those that are rarely needed.
func TestHelpGroupsEveryCommand(t *testing.T) {
	root := (&program{out: os.Stdout, err: os.Stderr, in: os.Stdin}).command()
	for _, cmd := range root.Commands() {
		if cmd.GroupID == "" && !slices.Contains([]string{"bench", "version", "completion", "help", "man"}, cmd.Name()) {
			t.Errorf("%s is under no heading", cmd.Name())
		}
	}
	var paths []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if strings.Contains(cmd.Use, "DATASET") && !strings.Contains(cmd.Use, "TOPIC") && cmd.ValidArgsFunction == nil {
			paths = append(paths, cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	if walk(root); len(paths) > 0 {
		t.Errorf("no names are completed for %v", paths)
	}
}

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	if _, errOut, code := freshet(t, nil, "man", dir); code != 0 {
		t.Fatal(errOut)
	}
	for _, page := range []string{"freshet.1", "freshet-worker.1", "freshet-replay-start.1"} {
		if text, err := os.ReadFile(filepath.Join(dir, page)); err != nil || !strings.Contains(string(text), ".SH SYNOPSIS") {
			t.Errorf("%s: %v", page, err)
		}
	}
}
