package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// sqlVar makes this test binary a client that runs the statements of its standard input; its value is the DSN.
const sqlVar = "FRESHET_E2E_SQL"

// sqlChild is the client's side.
func sqlChild() (code int, child bool) {
	dsn := os.Getenv(sqlVar)
	if dsn == "" {
		return 0, false
	}
	if err := runSQL(context.Background(), dsn); err != nil {
		fmt.Fprintln(os.Stderr, "sql child:", err)
		return 1, true
	}
	return 0, true
}

func runSQL(ctx context.Context, dsn string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("read statements: %w", err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // a transaction is one session
	for stmt := range strings.SplitSeq(string(text), ";\n") {
		if stmt = strings.TrimSpace(stmt); stmt == "" || strings.HasPrefix(stmt, "--") {
			continue
		}
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%.60s: %w", stmt, err)
		}
	}
	return nil
}

// tutorial returns the commands of docs/getting-started.md, for the servers of a test in place of those of docker compose.
func tutorial(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range consoleBlock.FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			switch {
			case strings.HasPrefix(line, "git clone "):
				line = "ln -s \"$ROOT\" src\n"
			case strings.Contains(line, " up -d --wait"), strings.Contains(line, " mysql -uroot "):
				continue // the test has servers and databases
			case strings.HasPrefix(line, "docker compose "):
				_, file, found := strings.Cut(line, " shop < ")
				if !found {
					t.Fatalf("the test does not know what to do with %q", line)
				}
				line = sqlVar + "=\"$SHOP\" \"$SQL\" < " + file
			}
			script.WriteString(line)
		}
	}
	return script.String()
}

// TestTutorialWorks runs docs/getting-started.md, command by command, on real servers.
func TestTutorialWorks(t *testing.T) {
	script := tutorial(t)
	for _, want := range []string{"freshet init", "freshet backfill", "./reader", "9.90 <nil>"} {
		if !strings.Contains(script, want) {
			t.Fatalf("the tutorial has no step with %q", want)
		}
	}
	kafka, redis, my := testenv.Kafka(t), testenv.Redis(t), testenv.MySQL(t)
	ns, shop, dsn := redis.Namespace(t), my.NewDatabase(t), my.NewDatabase(t)
	database := shop[strings.LastIndex(shop, "/")+1:]
	database, _, _ = strings.Cut(database, "?")
	worker, api, relay := freeAddr(t), freeAddr(t), freeAddr(t)
	script = strings.NewReplacer(
		"freshet:freshet@tcp(127.0.0.1:3306)/shop", shop,
		"freshet:freshet@tcp(127.0.0.1:3306)/freshet", dsn,
		"--tables shop.products", "--tables "+database+".products",
		"127.0.0.1:7788", worker, "127.0.0.1:6379", redis.Addr, "FRESHET_NAMESPACE=start", "FRESHET_NAMESPACE="+ns,
		"go build -C src -o \"$PWD/freshet\" ./cmd/freshet", "ln -s "+freshet(t)+" freshet",
	).Replace(script)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "ROOT="+root, "SQL="+self, "SHOP="+shop, "CGO_ENABLED=0")
	for k, v := range map[string]string{
		"KAFKA__BROKERS": strings.Join(kafka.Brokers, ","), "REDIS__URL": "redis://" + redis.Addr + "/0",
		"WORKER__LISTEN": worker, "ADMIN__LISTEN": api, "CLIENT__URL": "http://" + api, "RELAY__LISTEN": relay,
	} {
		env = append(env, "FRESHET_"+k+"="+v)
	}
	t.Cleanup(func() {
		kafka.DeleteTopic(t, "freshet.products")
		kafka.DeleteTopic(t, schemas.InvalidationTopic(ns))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*settleLimit)
	defer cancel()
	// The processes that the steps leave in the background end with the shell.
	cmd := exec.CommandContext(ctx, "bash", "-euc", "trap 'kill $(jobs -p); wait' EXIT\n"+script)
	dir := t.TempDir()
	cmd.Dir, cmd.Env = dir, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		logs := ""
		for _, name := range []string{"serve.log", "relay.log", "reader.log"} {
			text, _ := os.ReadFile(filepath.Join(dir, name)) // absent before its step
			logs += name + ":\n" + string(text[max(0, len(text)-2000):]) + "\n"
		}
		t.Fatalf("the steps fail: %v\n%s\n%s", err, out.String(), logs)
	}
}
