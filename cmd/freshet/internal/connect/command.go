package connect

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	commandTimeout = 15 * time.Second
	// commandKeep is how long an answer is used again: tokens of clouds are valid for a quarter of an hour and longer, and a pool opens several
	// connections at once.
	commandKeep = time.Minute
	// commandPause is how long an error is: those who wait for the same run do not each start it again.
	commandPause = 2 * time.Second
)

// command prints a password or a token, such as "aws rds generate-db-auth-token …". It is run without a shell.
type command struct {
	setting string
	args    []string

	turn   chan struct{} // one slot: one run at a time; it guards what follows
	answer string
	err    error
	until  time.Time
}

func newCommand(setting, line string) *command {
	return &command{setting: setting, args: strings.Fields(line), turn: make(chan struct{}, 1)}
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
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return "", fmt.Errorf("%s: wait for %s: %w", c.setting, c.args[0], ctx.Err())
	}
	if time.Now().Before(c.until) {
		return c.answer, c.err
	}
	answer, err := c.run(ctx)
	if ctx.Err() != nil {
		return answer, err // the caller ended it, which says nothing about the next run
	}
	c.answer, c.err, c.until = answer, err, time.Now().Add(commandKeep)
	if err != nil {
		c.until = time.Now().Add(commandPause)
	}
	return answer, err
}

func (c *command) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...) //nolint:gosec // the operator's own setting
	cmd.Stderr, cmd.WaitDelay = &errOut, time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: run %s: %w: %.500s", c.setting, c.args[0], err, strings.TrimSpace(errOut.String()))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: %s printed nothing", c.setting, c.args[0])
	}
	return line, nil
}
