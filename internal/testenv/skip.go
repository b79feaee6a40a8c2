package testenv

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// skipVar names the file in which the tests of a run note what they skipped: go test hides skips, and a test that was
// not run must not look like one that passed.
const skipVar = "FRESHET_TEST_SKIPS"

// Skip skips the test for a reason that the end of `make test` shows.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if path := os.Getenv(skipVar); path != "" {
		if err := noteSkip(path, t.Name()+": "+reason); err != nil {
			t.Errorf("testenv: note a skipped test: %v", err)
		}
	}
	t.Skip("SKIPPED: " + reason)
}

// noteSkip appends one line; a line this short goes out in one write, so those of other processes stay apart.
func noteSkip(path, line string) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the list: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.ReplaceAll(line, "\n", " ") + "\n"); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// withSkipReport runs a command that gets skipVar's setting, and says afterwards what was skipped.
func withSkipReport(out io.Writer, run func(setting string) int) int {
	f, err := os.CreateTemp("", "skips")
	if err != nil {
		fmt.Fprintln(out, "testenv: make the list of skipped tests:", err)
		return run(skipVar + "=")
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a temporary file
	defer f.Close()
	code := run(skipVar + "=" + f.Name())
	b, err := io.ReadAll(f)
	if err != nil {
		fmt.Fprintln(out, "testenv: read the list of skipped tests:", err)
	}
	lines := strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' })
	fmt.Fprintf(out, "testenv: tests that were skipped: %d\n", len(lines))
	for _, l := range lines {
		fmt.Fprintln(out, "  SKIPPED", l)
	}
	return code
}
