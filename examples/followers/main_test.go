package followers_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A language is a folder of this package with a serve and a vectors program.
type language struct {
	name, suffix string
	// address makes of host:port what the serve program wants.
	address string
	// interpreter returns the program that runs the others, or reports what is missing.
	interpreter func(ctx context.Context, dir string) (path, missing string)
}

func languages() []language {
	return []language{
		{"php", ".php", "%s", php},
		{"node", ".js", "redis://%s/0", node},
		{"python", ".py", "redis://%s/0", python},
	}
}

// each runs a test for every language whose interpreter and client are here, and skips the others loudly.
func each(t *testing.T, test func(t *testing.T, l language, command func(args ...string) *exec.Cmd)) {
	t.Helper()
	for _, l := range languages() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			path, missing := l.interpreter(ctx, l.name)
			if missing != "" {
				testenv.Skip(t, missing+"; make test installs it where it runs as root on Debian")
			}
			test(t, l, func(args ...string) *exec.Cmd {
				args[0] += l.suffix
				cmd := exec.Command(path, args...)
				cmd.Dir = l.name
				return cmd
			})
		})
	}
}

func php(ctx context.Context, dir string) (path, missing string) {
	path, err := exec.LookPath("php")
	if err != nil || !succeeds(ctx, dir, path, "-r", "exit(extension_loaded('redis') && extension_loaded('pcntl') ? 0 : 1);") {
		return "", "no php with the extensions redis and pcntl (Debian: php-cli, php-redis)"
	}
	return path, ""
}

func python(ctx context.Context, dir string) (path, missing string) {
	for _, path := range []string{"python3", "/usr/bin/python3"} { // Debian's own has Debian's modules
		if succeeds(ctx, dir, path, "-c", "import redis") {
			return path, ""
		}
	}
	return "", "no python3 with redis-py (Debian: python3-redis)"
}

// node takes the client of the lock file; without npm, one that the system has.
func node(ctx context.Context, dir string) (path, missing string) {
	path, err := exec.LookPath("node")
	if err != nil {
		return "", "no node (Debian: nodejs)"
	}
	if _, err := exec.LookPath("npm"); err == nil {
		if err := npmCI(ctx, dir); err != nil {
			return "", err.Error()
		}
	}
	if !succeeds(ctx, dir, path, "-e", "require('redis')") {
		return "", "no node-redis and no npm to fetch it (Debian: node-redis)"
	}
	return path, ""
}

// npmCI installs what the lock file names, unless that is what was installed last.
func npmCI(ctx context.Context, dir string) error {
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return fmt.Errorf("read package-lock.json: %w", err)
	}
	note := filepath.Join(dir, "node_modules", ".installed-from")
	if have, err := os.ReadFile(note); err == nil && bytes.Equal(have, lock) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, out)
	}
	if err := os.WriteFile(note, lock, 0o600); err != nil {
		return fmt.Errorf("note what npm ci installed: %w", err)
	}
	return nil
}

func succeeds(ctx context.Context, dir, name string, args ...string) bool {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd.Run() == nil
}

// The vectors that a follower must understand, and its rules: loads that an invalidation overtakes, readers of one key at a time, numbers of lanes,
// cache sections, ends of entries, full tables.
func TestVectors(t *testing.T) {
	folder, err := filepath.Abs("../../invalidation/lane/testdata/vectors")
	if err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, _ language, command func(args ...string) *exec.Cmd) {
		if out, err := command("vectors", folder).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
