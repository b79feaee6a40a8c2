package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// chromium is the one browser of a test process.
type chromium struct {
	once    sync.Once
	proc    *Process
	address string
	err     error
}

// Chromium returns the DevTools address (ws://…) of a headless Chromium that the tests of this process share. A test is
// skipped where there is none. Use it through internal/browser, which gives each test a profile of its own.
func Chromium(t testing.TB) string {
	t.Helper()
	bin, err := program("install chromium", "chromium")
	if err != nil {
		Skip(t, "no Chromium; make test installs it where it runs as root on Debian")
	}
	l, c := shared.launcherFor(t), &shared.chromium
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
		defer cancel()
		c.err = c.start(ctx, l, bin)
	})
	give(t, "Chromium", c.err)
	t.Cleanup(func() { c.proc.attachLog(t) })
	return c.address
}

// start runs Chromium with a new profile and waits for its DevTools.
func (c *chromium) start(ctx context.Context, l *launcher, bin string) error {
	dir, err := serverDir()
	if err != nil {
		return err
	}
	l.remove(dir)
	profile := filepath.Join(dir, "profile")
	args := []string{
		"--headless", "--remote-debugging-port=0", "--user-data-dir=" + profile, "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-quic", "--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--disable-breakpad", "--disable-crash-reporter", "--disable-extensions", "--hide-scrollbars", "--force-color-profile=srgb", "--log-level=3",
		// A page in the background keeps its timers, since tests open several.
		"--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
		// Nothing outside this machine is reached, even by a page that asks for it.
		"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // Chromium refuses to start as root with it
	}
	cmd := exec.Command(bin, append(args, "about:blank")...)
	// What it writes beside its profile, such as settings of the desktop and caches of fonts, ends with the directory too.
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir)
	p, err := l.start("chromium", cmd, filepath.Join(dir, "chromium.log"))
	if err != nil {
		return err
	}
	c.proc = p
	err = p.ready(ctx, func(ctx context.Context) (err error) {
		c.address, err = devTools(ctx, filepath.Join(profile, "DevToolsActivePort"))
		return err
	})
	if err != nil {
		return kill(p, err)
	}
	return nil
}

// devTools reads the port and the path that Chromium writes once it listens.
func devTools(ctx context.Context, file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("look for its port: %w", err)
	}
	port, path, ok := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if !ok {
		return "", errors.New("its port is not written yet")
	}
	addr := net.JoinHostPort("127.0.0.1", port)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := dial(ctx, addr); err != nil {
		return "", err
	}
	return "ws://" + addr + path, nil
}
