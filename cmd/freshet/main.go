// Command freshet is the binary of Freshet for servers and operators: worker, admin API, publisher and migrations.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := program{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), redis: &redisLog{}}
	redis.SetLogger(p.redis) // its own would break the log's format
	code := run(ctx, os.Args[1:], p)
	stop()
	os.Exit(code)
}

// program is what one run has from outside (its streams, environment and global flags), so that tests can run it in process.
// Each command is a function that takes it.
type program struct {
	in       io.Reader
	out, err io.Writer
	environ  []string

	redis *redisLog // nil in tests
	// jsonLog is the log of a service in the format json, which also takes the error that it ends with; nil otherwise.
	jsonLog *slog.Logger

	configFile string
	json       bool
}

// usageError is an error in the flags or arguments; the process ends with exit code 2. config.UsageError is one in the settings.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// run returns the exit code: 0 done, 1 failed, 2 wrong usage. An error is one line that reports what to do.
func run(ctx context.Context, args []string, p program) int {
	root := p.command() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	switch {
	case errors.Is(err, errReported):
	case p.jsonLog != nil:
		p.jsonLog.Error("the process ends", "error", err)
	default:
		fmt.Fprintf(printable{p.err}, "freshet: %v\n", err)
	}
	if isUsage(err) {
		return exitUsage
	}
	return exitFailed
}

// isUsage reports whether the user must change flags, arguments or settings.
func isUsage(err error) bool {
	var usage usageError
	var setting config.UsageError
	return errors.As(err, &usage) || errors.As(err, &setting)
}

// errReported is returned by a command that has already printed its failure.
var errReported = errors.New("failed")
