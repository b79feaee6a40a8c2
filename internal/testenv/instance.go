package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// instance is the part that all servers have in common: where it lives, and what a test may do to it.
type instance struct {
	name    string
	dir     string // "" for a server that was given by a variable
	private bool   // started for one test, which may break it

	boot func(context.Context) (*Process, error) // starts it in dir and returns when it answers as ours
	wipe func(context.Context) error             // removes its data, so that boot begins with nothing

	mu      sync.Mutex // guards proc and stopped
	proc    *Process   // nil for a given server
	stopped time.Time  // since when it is frozen
}

// bootTries: a port that was free may be taken a moment later, and then boot chooses another.
const bootTries = 3

func (i *instance) start(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	p, err := i.boot(ctx)
	if err != nil {
		return err
	}
	i.proc = p
	return nil
}

// adopt makes the server the test's own.
func (i *instance) adopt(t testing.TB) {
	t.Helper()
	i.private = true
	t.Cleanup(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.proc != nil {
			if err := i.proc.kill(); err != nil {
				t.Errorf("testenv: %v", err)
			}
			i.proc.attachLog(t)
		}
		if err := os.RemoveAll(i.dir); err != nil {
			t.Errorf("testenv: remove directory of %s: %v", i.name, err)
		}
	})
}

// attachLog shows the end of a shared server's log when the test fails.
func (i *instance) attachLog(t testing.TB) {
	t.Helper()
	if i.proc == nil {
		return
	}
	p := i.proc
	t.Cleanup(func() { p.attachLog(t) })
}

func (i *instance) breakable(t testing.TB) {
	t.Helper()
	if !i.private {
		t.Fatalf("testenv: this %s is shared; start one of your own to break it", i.name)
	}
}

// Kill ends the server with SIGKILL. Its data stays for Restart.
func (i *instance) Kill(t testing.TB) {
	t.Helper()
	i.breakable(t)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.proc.Kill(t)
}

// Stop freezes the server with SIGSTOP.
func (i *instance) Stop(t testing.TB) {
	t.Helper()
	i.breakable(t)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.proc.Stop(t)
	i.stopped = time.Now()
}

// Cont lets a stopped server continue.
func (i *instance) Cont(t testing.TB) {
	t.Helper()
	i.breakable(t)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.proc.Cont(t)
	t.Logf("testenv: %s was stopped for %s", i.name, time.Since(i.stopped).Round(time.Millisecond))
}

// Restart kills the server if it runs and starts it again at the same address with the data it has. It returns when the
// server answers.
func (i *instance) Restart(t testing.TB) {
	t.Helper()
	i.restart(t, false)
}

// RestartEmpty is Restart with nothing left of the data.
func (i *instance) RestartEmpty(t testing.TB) {
	t.Helper()
	i.restart(t, true)
}

func (i *instance) restart(t testing.TB, empty bool) {
	t.Helper()
	i.breakable(t)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.proc.kill(); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	if empty {
		if err := i.wipe(t.Context()); err != nil {
			t.Fatalf("testenv: empty %s: %v", i.name, err)
		}
	}
	p, err := i.boot(t.Context())
	if err != nil {
		t.Fatalf("testenv: restart %s: %v", i.name, err)
	}
	i.proc = p
	t.Logf("testenv: restarted %s (pid %d, empty %t)", i.name, p.pid, empty)
}

// startTried sets up a server in a new directory on a port that is free now, and tries again when that fails.
func startTried[T any](ctx context.Context, l *launcher, setup func(ctx context.Context, dir string, port int) (*T, error)) (*T, error) {
	var failed error
	for range bootTries {
		dir, err := serverDir()
		if err != nil {
			return nil, err
		}
		l.remove(dir)
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		s, err := setup(ctx, dir, port)
		if err == nil {
			return s, nil
		}
		if failed = err; ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// freePort is a TCP port of loopback that is free at the moment.
func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// program finds an executable; Debian puts servers where users' PATH does not look.
func program(fix string, names ...string) (string, error) {
	for _, name := range names {
		if path, ok := flavored(name); ok {
			return path, nil
		}
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/homebrew/bin", "/usr/local/bin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no %s found; %s", ErrMissing, names[0], fix)
}

// unique is a name that no other test has.
func unique(prefix string) string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// errForeign: another server answers at the address that ours should have; it is not touched.
var errForeign = errors.New("another server has this address")

// kill ends a child that did not become ready.
func kill(p *Process, cause error) error {
	return errors.Join(cause, p.kill())
}

// dial asks whether something listens, before a client that would log its failures is set on the address.
func dial(ctx context.Context, addr string) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	return c.Close()
}

// emptyDir removes a directory's entries and keeps the directory.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("empty directory: %w", err)
		}
	}
	return nil
}
