// Command freshet is the binary of Freshet for servers and operators: worker, admin API, publisher and migrations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := program{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), redis: &redisLog{}}
	redis.SetLogger(p.redis) // its own would break the log's format
	code := run(ctx, os.Args[1:], p)
	stop()
	os.Exit(code)
}

// program is what a run of the command touches of the outside, so that tests can run it in process.
type program struct {
	in       io.Reader
	out, err io.Writer
	environ  []string

	redis *redisLog // nil in tests

	configFile string
	json       bool
}

// usageError is an error of the one who called; it ends with exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// run gives the exit code: 0 done, 1 failed, 2 wrong usage. An error is one line that says what to do.
func run(ctx context.Context, args []string, p program) int {
	root := p.command() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(printable{p.err}, "freshet: %v\n", err)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// errReported ends a command whose failure was already told.
var errReported = errors.New("failed")
