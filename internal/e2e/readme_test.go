package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// consoleBlock is a fenced block of commands.
var consoleBlock = regexp.MustCompile("(?s)```console\n(.*?)```")

// readmeSteps returns the commands that a README has for real servers, without their comments.
func readmeSteps(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range consoleBlock.FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(block[1], "docker compose up") {
			continue
		}
		var steps []string
		for line := range strings.Lines(block[1]) {
			step, _, _ := strings.Cut(line, "  #")
			steps = append(steps, strings.TrimSpace(step))
		}
		return steps
	}
	t.Fatalf("%s has no steps for real servers", file)
	return nil
}

// TestReadmeStepsWork runs the steps of the README against real servers: those of this test take the place of the ones that
// docker compose starts, and free ports that of the fixed ones. Everything else is run unchanged.
func TestReadmeStepsWork(t *testing.T) {
	steps := readmeSteps(t, "README.md")
	if zh := readmeSteps(t, "README.zh-CN.md"); strings.Join(zh, "\n") != strings.Join(steps, "\n") {
		t.Errorf("the Chinese README has other steps:\n%s", strings.Join(zh, "\n"))
	}
	if len(steps) < 8 || !strings.HasPrefix(steps[0], "docker compose") || !strings.HasPrefix(steps[1], "go build") {
		t.Fatalf("the README's steps begin with %q", steps[:min(2, len(steps))])
	}
	kafka, redis := testenv.Kafka(t), testenv.Redis(t)
	ns := redis.Namespace(t)
	dsn := testenv.MySQL(t).NewDatabase(t)
	worker, api := freeAddr(t), freeAddr(t)
	script := strings.NewReplacer(
		"freshet:freshet@tcp(127.0.0.1:3306)/freshet", dsn,
		"bin/freshet", freshet(t),
		"127.0.0.1:7788", worker,
		"FRESHET_NAMESPACE=shop", "FRESHET_NAMESPACE="+ns,
	).Replace(strings.Join(steps[2:], "\n"))
	env := os.Environ()
	for k, v := range map[string]string{
		"KAFKA__BROKERS": strings.Join(kafka.Brokers, ","), "REDIS__URL": "redis://" + redis.Addr + "/0",
		"WORKER__LISTEN": worker, "ADMIN__LISTEN": api, "CLIENT__URL": "http://" + api,
	} {
		env = append(env, "FRESHET_"+k+"="+v)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*settleLimit)
	defer cancel()
	// The inspection may come before the worker has written, so it is repeated. A server that a failing step leaves in the
	// background ends with the shell.
	const inspect = " inspect users 42"
	if !strings.Contains(script, inspect) {
		t.Fatal("no step inspects the record that was published")
	}
	script = strings.Replace(script, inspect, inspect+"\nuntil "+freshet(t)+inspect+" | grep 'Every copy has version 1'; do :; done", 1)
	cmd := exec.CommandContext(ctx, "bash", "-euc", "trap 'kill $(jobs -p); wait' EXIT\n"+script)
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	t.Cleanup(func() {
		for _, name := range []string{"users", "products", "orders"} {
			kafka.DeleteTopic(t, "freshet."+name)
		}
		kafka.DeleteTopic(t, schemas.InvalidationTopic(ns))
	})
	if err := cmd.Run(); err != nil {
		t.Fatalf("the steps fail: %v\n%s", err, out.String())
	}
}

// freeAddr is an address of loopback that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(l.Addr())
}
