package testenv

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
)

// failures passes on what go test prints and keeps the lines that say what failed, so that they can be said again at the
// end: they are far up when a package that is slow comes last, and a log that is cut keeps its end.
type failures struct {
	to   io.Writer
	part []byte // of a line
	kept []string
}

// failureLines are those of a failed or hanging test, without the logs of processes that it started.
var failureLines = regexp.MustCompile(`^(\s*--- FAIL|FAIL\t|panic: |WARNING: DATA RACE|\s+\w+_test\.go:\d+: |\t\tTest\w)`)

// chatter are lines of a test's log that are not about its failure: what the parts that it runs say by slog, and what testenv
// does with servers.
var chatter = regexp.MustCompile(`^\s+\w+_test\.go:\d+: (time=\S+ level=|\{"time":|testenv: (?:stopped|restarted|killed|continued) |testenv: .* was stopped for )`)

const maxFailureLines, maxFailureLine = 60, 400

// Write passes p on.
func (f *failures) Write(p []byte) (int, error) {
	f.part = append(f.part, p...)
	for {
		line, rest, whole := bytes.Cut(f.part, []byte("\n"))
		if !whole {
			break
		}
		if failureLines.Match(line) && !chatter.Match(line) && len(f.kept) < maxFailureLines {
			f.kept = append(f.kept, string(line[:min(len(line), maxFailureLine)]))
		}
		f.part = rest
	}
	return f.to.Write(p)
}

func (f *failures) report(out io.Writer) {
	if len(f.kept) == 0 {
		return
	}
	fmt.Fprintln(out, "testenv: what failed, again:")
	for _, line := range f.kept {
		fmt.Fprintln(out, line)
	}
}
