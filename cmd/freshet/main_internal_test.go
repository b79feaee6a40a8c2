package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// freshet runs the command in process.
func freshet(t *testing.T, environ []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, program{in: strings.NewReader(""), out: &out, err: &errOut, environ: environ})
	return out.String(), errOut.String(), code
}

func TestExitCodesAndErrorsThatSayWhatToDo(t *testing.T) {
	empty := t.TempDir()
	for _, tc := range []struct {
		name    string
		environ []string
		args    []string
		code    int
		want    string // in stderr
	}{
		{"no such command", nil, []string{"fly"}, exitUsage, "unknown command"},
		{"the demo", nil, []string{"dev", "--duration", "20s"}, exitUsage, "go run ./cmd/freshet-dev"},
		{"unknown flag", nil, []string{"worker", "--fly"}, exitUsage, "freshet worker --help"},
		{"too many arguments", nil, []string{"version", "now"}, exitUsage, "usage: freshet version"},
		{"unknown setting in environment", []string{"FRESHET_KAFKA__BROKER=x"}, []string{"config"}, exitUsage, "FRESHET_KAFKA__BROKER"},
		{"file that is not there", nil, []string{"config", "--config", filepath.Join(empty, "none.yaml")}, exitUsage, "none.yaml"},
		{"no datasets", nil, []string{"worker", "--datasets", empty}, exitFailed, "holds no dataset"},
		{"no database", []string{"FRESHET_DATASETS=../../examples/shop/datasets"}, []string{"migrate", "up"}, exitUsage, "FRESHET_MYSQL__DSN"},
		{"dangerous DSN", []string{"FRESHET_MYSQL__DSN=u:hunter2@tcp(127.0.0.1:1)/d?multiStatements=true"}, []string{"migrate", "up"}, exitUsage, "multiStatements"},
		{"migrate without word", nil, []string{"migrate"}, exitUsage, "up, status, down, datasets or namespace"},
		{"drop a cache section that is there", []string{"FRESHET_DATASETS=../../examples/shop/datasets"}, []string{"migrate", "datasets", "--drop-cache", "users"}, exitUsage, "users: the dataset still has a cache section"},
		{"drop the cache section of nothing", []string{"FRESHET_DATASETS=../../examples/shop/datasets"}, []string{"migrate", "datasets", "--drop-cache", "nope"}, exitUsage, "nope: no such dataset"},
		{"publish without data", []string{"FRESHET_DATASETS=../../examples/shop/datasets"}, []string{"publish", "users", "1", "--version", "1"}, exitUsage, "--data"},
		{"publish to a dataset that is not declared", []string{"FRESHET_DATASETS=../../examples/shop/datasets"}, []string{"publish", "nope", "1", "--version", "1", "--delete"}, exitFailed, "nope"},
		{"publish what breaks the schema", []string{"FRESHET_DATASETS=../../examples/shop/datasets"}, []string{"publish", "users", "1", "--version", "1", "--data", `{"id":"one"}`}, exitFailed, "data/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errOut, code := freshet(t, tc.environ, tc.args...)
			if code != tc.code || !strings.Contains(errOut, tc.want) {
				t.Errorf("exit code %d, stderr %q; want %d and %q", code, errOut, tc.code, tc.want)
			}
			if strings.Contains(errOut, "hunter2") {
				t.Error("a password is printed")
			}
			if n := strings.Count(strings.TrimSpace(errOut), "\n"); n > 3 {
				t.Errorf("%d lines of error:\n%s", n+1, errOut)
			}
		})
	}
}

func TestKafkaAwayIsAClearErrorWithinTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	code := run(ctx, []string{"publish", "users", "1", "--version", "1", "--data", `{"id":1,"name":"Ada","email":"ada@example.com"}`, "--kafka-brokers", "127.0.0.1:1"},
		program{in: strings.NewReader(""), out: &out, err: &errOut, environ: []string{"FRESHET_DATASETS=../../examples/shop/datasets"}})
	if code != exitFailed || !strings.Contains(errOut.String(), "127.0.0.1:1") {
		t.Errorf("exit code %d, stderr %q; want 1 and the broker's name", code, errOut.String())
	}
}

func TestConfigShowsOriginsAndMasksSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "freshet.yaml")
	if err := os.WriteFile(file, []byte("namespace: shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"FRESHET_MYSQL__DSN=root:hunter2@tcp(h:1)/d", "FRESHET_KAFKA__GROUP=g"}
	out, errOut, code := freshet(t, environ, "config", "--config", file, "--log-level", "debug")
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	for _, want := range []string{"file " + file, "environment FRESHET_KAFKA__GROUP", "flag --log-level", "***"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "hunter2") {
		t.Error("a password is printed")
	}
	out, _, _ = freshet(t, environ, "config", "--json")
	var values []struct{ Key, Value, Origin string }
	if err := json.Unmarshal([]byte(out), &values); err != nil || len(values) < 20 {
		t.Errorf("%d values, %v", len(values), err)
	}
}

func TestVersion(t *testing.T) {
	out, _, code := freshet(t, nil, "version")
	if code != exitDone || !strings.HasPrefix(out, "freshet ") {
		t.Errorf("exit code %d, %q", code, out)
	}
	out, _, _ = freshet(t, nil, "version", "--json")
	var v struct{ Version, Go string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Version == "" || v.Go == "" {
		t.Errorf("%q: %v", out, err)
	}
}
