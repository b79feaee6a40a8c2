package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/testenv"
)

// script writes a program that counts its runs.
func script(t *testing.T, body string) (path string, runs func() int) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "token.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho run >> "+dir+"/runs\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path, func() int {
		text, _ := os.ReadFile(filepath.Join(dir, "runs"))
		return strings.Count(string(text), "\n")
	}
}

func TestCommandPrintsThePassword(t *testing.T) {
	path, runs := script(t, `echo "token-for-$1"; echo "more"`)
	c := newCommand("mysql.password_command", path+"  db-1")
	for range 3 {
		if user, password, err := c.credentials("u")(t.Context()); user != "u" || password != "token-for-db-1" || err != nil {
			t.Fatalf("%s, %s, %v", user, password, err)
		}
	}
	if runs() != 1 {
		t.Errorf("%d runs for three connections at once", runs())
	}
	c.until = time.Now()
	if _, err := c.ask(t.Context()); err != nil || runs() != 2 {
		t.Errorf("a minute later: %d runs, %v", runs(), err)
	}
	path, _ = script(t, "echo secret; echo 'the session has expired' >&2; exit 3")
	if _, err := newCommand("redis.password_command", path).ask(t.Context()); err == nil || !strings.Contains(err.Error(), "redis.password_command") ||
		!strings.Contains(err.Error(), "the session has expired") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a program that fails: %v", err)
	}
	path, runs = script(t, "exit 1")
	failing := newCommand("x", path)
	for range 3 {
		if _, err := failing.ask(t.Context()); err == nil {
			t.Error("a program that failed has an answer")
		}
	}
	if runs() != 1 {
		t.Errorf("a program that fails is run %d times at once", runs())
	}
	failing.turn <- struct{}{} // a run hangs
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := failing.ask(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is gone waits: %v", err)
	}
	path, _ = script(t, "true")
	if _, err := newCommand("x", path).ask(t.Context()); err == nil || !strings.Contains(err.Error(), "printed nothing") {
		t.Errorf("a program without output: %v", err)
	}
}

// MySQL and Redis take the passwords that commands print.
func TestServersTakeTokensOfCommands(t *testing.T) {
	my, rs := testenv.MySQL(t), testenv.Redis(t)
	dsn, err := mysql.ParseDSN(my.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	root, user := my.Open(t, my.DSN("")), dsn.DBName+"_tok"
	for _, stmt := range []string{"CREATE USER " + user + "@'%' IDENTIFIED BY 'fresh-token'", "GRANT ALL ON " + dsn.DBName + ".* TO " + user + "@'%'"} {
		if _, err := root.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = root.Exec("DROP USER " + user + "@'%'") })
	rs.SetUser(t, user, ">fresh-token", "~*", "&*", "+@all")
	path, runs := script(t, "echo fresh-token")
	c := loaded(t, fmt.Sprintf("FRESHET_MYSQL__DSN=%s@tcp(%s)/%s", user, my.Addr, dsn.DBName), "FRESHET_MYSQL__PASSWORD_COMMAND="+path,
		"FRESHET_REDIS__URL=redis://"+user+"@"+rs.Addr+"/0", "FRESHET_REDIS__PASSWORD_COMMAND="+path)
	db, err := Replica(t.Context(), c, telemetry.NewLogger(io.Discard, "info", "text"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rdb, err := Redis(c)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
	if runs() == 0 {
		t.Error("the command was not asked")
	}
	both := loaded(t, "FRESHET_MYSQL__DSN=u:p@tcp(h:1)/d", "FRESHET_MYSQL__PASSWORD_COMMAND="+path, "FRESHET_REDIS__URL=redis://u:p@h:1/0", "FRESHET_REDIS__PASSWORD_COMMAND="+path)
	if _, err := Replica(t.Context(), both, telemetry.NewLogger(io.Discard, "info", "text")); err == nil || !strings.Contains(err.Error(), "keep one") {
		t.Errorf("two passwords of MySQL: %v", err)
	}
	if _, err := Redis(both); err == nil || !strings.Contains(err.Error(), "keep one") {
		t.Errorf("two passwords of Redis: %v", err)
	}
}

// A worker sends cleartext passwords where the setting says so, like every other program.
func TestWorkerMaySendCleartext(t *testing.T) {
	c := loaded(t, "FRESHET_MYSQL__DSN=u@tcp(h:1)/d", "FRESHET_MYSQL__CLEARTEXT=true", "FRESHET_MYSQL__TLS__ENABLED=true")
	cc, closeAll, err := Consumer(c, nil, telemetry.NewLogger(io.Discard, "info", "text"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll()
	if !cc.MySQL.Cleartext {
		t.Error("the setting is lost on the way to the worker")
	}
}
