package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Serve starts the three servers once, runs a command whose environment names them, stops them, and returns the command's
// exit code. Servers that the environment names already are used unchanged. out receives a line about each server. With -settings
// before the command, the environment also has the settings of freshet itself, with a database of its own.
func Serve(ctx context.Context, args []string, out io.Writer) int {
	if code, child := kfakeChild(); child {
		return code
	}
	settings := len(args) > 0 && args[0] == "-settings"
	if settings {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(out, "usage: serve [-settings] COMMAND [ARGUMENT …]")
		return 2
	}
	// The command gets the terminal's signals itself; we wait for it, and stop the servers afterwards.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	if err := prepareFlavor(ctx, out); err != nil {
		fmt.Fprintln(out, "testenv:", err)
		return exitMissing
	}
	env, stop, err := serveAll(ctx, out)
	if err != nil {
		fmt.Fprintln(out, "testenv:", err)
		return 1
	}
	var code int
	if settings {
		code = withSettings(ctx, env, out, func(env []string) int { return runCommand(ctx, args, env, signals, os.Stdout, out) })
	} else {
		failed := &failures{to: os.Stdout}
		code = withSkipReport(out, func(note string) int {
			return runCommand(ctx, args, append(env, note), signals, failed, out)
		})
		failed.report(out)
	}
	if err := stop(); err != nil {
		fmt.Fprintln(out, "testenv:", err)
		code = max(code, 1)
	}
	return code
}

// exitMissing is Serve's exit code when the software of a flavor cannot be had.
const exitMissing = 3

func allGiven() bool {
	return os.Getenv(KafkaVar) != "" && os.Getenv(MySQLVar) != "" && os.Getenv(RedisVar) != ""
}

// serveAll returns the variables that name three running servers, and what stops those that were started here: those of
// the environment, else Docker Compose if an engine runs, else this machine's own.
func serveAll(ctx context.Context, out io.Writer) (env []string, stop func() error, err error) {
	mode := os.Getenv(ServersVar)
	if mode != "docker" {
		// Also where Docker runs the shared servers: tests that break servers start their own.
		if err := install(ctx, out); err != nil {
			fmt.Fprintln(out, "testenv:", err) // what is missing is said again, server by server, below
		}
	}
	if mode == "docker" || mode != "native" && os.Getenv(BinVar) == "" && !allGiven() && dockerRuns(ctx) {
		env, stop, err = serveDocker(ctx, out)
		if err == nil || mode == "docker" {
			return env, stop, err
		}
		fmt.Fprintf(out, "testenv: DOCKER COMPOSE CANNOT RUN THE SERVERS, so those of this machine do: %v\n", err)
	}
	l := newLauncher()
	stop = func() error {
		if left := l.close(); len(left) > 0 {
			return fmt.Errorf("could not be stopped: %s", strings.Join(left, "; "))
		}
		return nil
	}
	began := time.Now()
	env, err = serveNative(ctx, l, out)
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	fmt.Fprintf(out, "testenv: servers answer after %s\n", time.Since(began).Round(100*time.Millisecond))
	return env, stop, nil
}

// serveNative starts what the environment does not name.
func serveNative(ctx context.Context, l *launcher, out io.Writer) ([]string, error) {
	var mu sync.Mutex // guards env and out
	env := []string{RequireVar + "=1"}
	note := func(what, version, variable, value string, own bool) {
		mu.Lock()
		defer mu.Unlock()
		how := "started"
		if !own {
			how = "given by " + variable
		}
		fmt.Fprintf(out, "testenv: %s %s, %s\n", what, version, how)
		env = append(env, variable+"="+value)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		given := os.Getenv(RedisVar)
		s, err := orGiven(given, func(a string) (*RedisServer, error) { return givenRedis(ctx, a) },
			func() (*RedisServer, error) { return startRedis(ctx, l, RedisOptions{}) })
		if err != nil {
			return fmt.Errorf("redis: %w", err)
		}
		if given == "" {
			given = s.Socket
		}
		note("Redis", s.Version, RedisVar, given, s.proc != nil)
		return nil
	})
	g.Go(func() error {
		s, err := orGiven(os.Getenv(MySQLVar), func(a string) (*MySQLServer, error) { return givenMySQL(ctx, a) },
			func() (*MySQLServer, error) { return startMySQL(ctx, l, MySQLOptions{}) })
		if err != nil {
			return fmt.Errorf("mysql: %w", err)
		}
		note("MySQL", s.Version, MySQLVar, s.DSN(""), s.proc != nil)
		return nil
	})
	g.Go(func() error {
		s, err := orGiven(os.Getenv(KafkaVar), func(a string) (*KafkaServer, error) { return givenKafka(ctx, a) },
			func() (*KafkaServer, error) { return startKafka(ctx, l, sharedKafka()) })
		if err != nil {
			return fmt.Errorf("kafka: %w", err)
		}
		note("Kafka", s.Version, KafkaVar, strings.Join(s.Brokers, ","), s.proc != nil)
		if len(s.SCRAMBrokers) > 0 {
			mu.Lock()
			env = append(env, KafkaLoginVar+"="+strings.Join(s.SCRAMBrokers, ","))
			mu.Unlock()
		}
		if !s.Real {
			mu.Lock()
			env = append(env, kfakeNote+"=1")
			mu.Unlock()
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return env, nil
}

func orGiven[T any](given string, use func(string) (*T, error), start func() (*T, error)) (*T, error) {
	if given != "" {
		return use(given)
	}
	return start()
}

// runCommand runs the command in our own process group, so that an interrupt from the terminal reaches it, passes other
// signals on, and returns its exit code. stdout is the command's; out learns of trouble.
func runCommand(ctx context.Context, args, env []string, signals <-chan os.Signal, stdout, out io.Writer) int {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(out, "testenv: start command:", err)
		return 1
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if sig != os.Interrupt {
				if err := cmd.Process.Signal(sig); err != nil {
					fmt.Fprintln(out, "testenv: pass signal on:", err)
				}
			}
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0
			case errors.As(err, &exit) && exit.ExitCode() > 0:
				return exit.ExitCode()
			default:
				fmt.Fprintln(out, "testenv: command:", err)
				return 1
			}
		}
	}
}
