package testenv_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

// given points the environment at the shared servers, so that Serve starts none.
func given(t *testing.T) {
	t.Helper()
	t.Setenv(testenv.RedisVar, testenv.Redis(t).Socket)
	if s := testenv.Redis(t); s.Socket == "" {
		t.Setenv(testenv.RedisVar, s.Addr)
	}
	t.Setenv(testenv.MySQLVar, testenv.MySQL(t).DSN(""))
	t.Setenv(testenv.KafkaVar, strings.Join(testenv.Kafka(t).Brokers, ","))
}

func TestServeGivesTheCommandsExitCode(t *testing.T) {
	given(t)
	var out bytes.Buffer
	if code := testenv.Serve(t.Context(), []string{"sh", "-c", "exit 3"}, &out); code != 3 {
		t.Errorf("exit code: got %d, want 3\n%s", code, &out)
	}
	if code := testenv.Serve(t.Context(), []string{"no-such-command"}, &out); code != 1 {
		t.Errorf("exit code of a missing command: got %d, want 1", code)
	}
	if code := testenv.Serve(t.Context(), nil, &out); code != 2 {
		t.Errorf("exit code without a command: got %d, want 2", code)
	}
}

func TestServeNamesTheServersToTheCommand(t *testing.T) {
	given(t)
	note := filepath.Join(t.TempDir(), "env")
	t.Setenv("NOTE", note)
	var out bytes.Buffer
	if code := testenv.Serve(t.Context(), []string{"-settings", "sh", "-c", `env > "$NOTE"`}, &out); code != 0 {
		t.Fatalf("exit code: got %d, want 0\n%s", code, &out)
	}
	b, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	env := string(b)
	for _, want := range []string{
		testenv.KafkaVar + "=" + os.Getenv(testenv.KafkaVar) + "\n",
		"FRESHET_KAFKA__BROKERS=" + os.Getenv(testenv.KafkaVar) + "\n",
		"FRESHET_MYSQL__DSN=" + os.Getenv(testenv.MySQLVar),
		"FRESHET_RELAY__DSN=" + os.Getenv(testenv.MySQLVar),
		"FRESHET_REDIS__URL=",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("the command's environment lacks %q", want)
		}
	}
	// The database of that run is gone.
	_, after, _ := strings.Cut(env, "FRESHET_MYSQL__DSN=")
	dsn, _, _ := strings.Cut(after, "\n")
	if err := testenv.MySQL(t).Open(t, dsn).PingContext(t.Context()); err == nil {
		t.Error("the database of -settings was left")
	}
}

func TestServeListsSkippedTests(t *testing.T) {
	given(t)
	if os.Getenv("TESTENV_SKIPS") != "" {
		testenv.Skip(t, "only to be counted")
	}
	t.Setenv("TESTENV_SKIPS", "1")
	var out bytes.Buffer
	args := []string{os.Args[0], "-test.run=^TestServeListsSkippedTests$"}
	if code := testenv.Serve(t.Context(), args, &out); code != 0 {
		t.Fatalf("exit code: got %d, want 0\n%s", code, &out)
	}
	want := "tests that were skipped: 1\n  SKIPPED TestServeListsSkippedTests: only to be counted\n"
	if !strings.Contains(out.String(), want) {
		t.Errorf("got %q, want it to hold %q", &out, want)
	}
}

// A stand-in for missing software must fail where servers are required, and skip with a reason where they are not.
func TestMissingSoftware(t *testing.T) {
	for _, c := range []struct {
		require       string
		skips, failed bool
	}{{"0", true, false}, {"1", false, true}} {
		t.Run("require="+c.require, func(t *testing.T) {
			t.Setenv(testenv.RequireVar, c.require)
			t.Setenv("FRESHET_TEST_SKIPS", "") // this one does not count
			r := &recorder{TB: t}
			func() {
				defer func() { recover() }() // the recorder panics instead of ending this test
				testenv.Give(r, "Redis", testenv.ErrMissing)
			}()
			if r.failed != c.failed || r.skipped != c.skips {
				t.Errorf("got failed %t, skipped %t; want %t, %t", r.failed, r.skipped, c.failed, c.skips)
			}
		})
	}
}
