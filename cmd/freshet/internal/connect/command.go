package connect

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	commandTimeout = 15 * time.Second
	// commandKeep is how long an answer is used again: tokens of clouds are valid for a quarter of an hour and longer, and a pool opens several
	// connections at once.
	commandKeep = time.Minute
)

// command prints a password or a token, such as "aws rds generate-db-auth-token …". It is run without a shell.
type command struct {
	setting string
	args    []string

	mu     sync.Mutex // one run at a time; guards what follows
	answer string
	until  time.Time
}

func newCommand(setting, line string) *command {
	return &command{setting: setting, args: strings.Fields(line)}
}

// credentials has the form that clients want.
func (c *command) credentials(user string) func(context.Context) (string, string, error) {
	return func(ctx context.Context) (string, string, error) {
		password, err := c.ask(ctx)
		return user, password, err
	}
}

// ask returns the first line of the program's output. Errors hold what it wrote to standard error, never its output.
func (c *command) ask(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...) //nolint:gosec // the operator's own setting
	cmd.Stderr, cmd.WaitDelay = &errOut, time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: run %s: %w: %s", c.setting, c.args[0], err, strings.TrimSpace(errOut.String()))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: %s printed nothing", c.setting, c.args[0])
	}
	c.answer, c.until = line, time.Now().Add(commandKeep)
	return line, nil
}
