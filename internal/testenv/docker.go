package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// dockerPassword is that of a container on loopback that ends with the tests.
const dockerPassword = "test"

// container is a service of docker-compose.yml: the variable that sets its port, and how tests are notified of it.
type container struct {
	service, portVar, testVar string
	setting                   func(addr string) string
}

// containers lists the services that the environment does not name servers for.
func containers() []container {
	same := func(addr string) string { return addr }
	var all []container
	for _, c := range []container{
		{"kafka", "DEV_KAFKA_PORT", KafkaVar, same},
		{"mysql", "DEV_MYSQL_PORT", MySQLVar, func(addr string) string { return "root:" + dockerPassword + "@tcp(" + addr + ")/" }},
		{"redis", "DEV_REDIS_PORT", RedisVar, same},
	} {
		if os.Getenv(c.testVar) == "" {
			all = append(all, c)
		}
	}
	return all
}

// serveDocker starts the compose file's servers on free ports of loopback under a project name of their own. Tests that
// break servers start their own natively, and are skipped where they cannot.
func serveDocker(ctx context.Context, out io.Writer) (env []string, stop func() error, err error) {
	file, err := composeFile()
	if err != nil {
		return nil, nil, err
	}
	env = []string{RequireVar + "=0"}
	settings := append(os.Environ(), "DEV_MYSQL_PASSWORD="+dockerPassword)
	up := []string{"up", "--detach", "--wait"}
	for _, c := range containers() {
		port, err := freePort(ctx)
		if err != nil {
			return nil, nil, err
		}
		settings = append(settings, c.portVar+"="+strconv.Itoa(port))
		env = append(env, c.testVar+"="+c.setting(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))))
		up = append(up, c.service)
	}
	compose := func(ctx context.Context, args ...string) error {
		all := append([]string{"compose", "-p", fmt.Sprintf("freshet-test-%d", os.Getpid()), "-f", file}, args...)
		cmd := exec.CommandContext(ctx, "docker", all...)
		cmd.Env, cmd.Stdout, cmd.Stderr = settings, out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("docker compose %s: %w", args[0], err)
		}
		return nil
	}
	stop = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		return compose(ctx, "down", "--volumes", "--timeout", "1")
	}
	if err := compose(ctx, up...); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return env, stop, nil
}

// dockerRuns reports whether an engine answers, and knows Compose.
func dockerRuns(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "info").Run() == nil &&
		exec.CommandContext(ctx, "docker", "compose", "version").Run() == nil
}

// composeFile looks for docker-compose.yml here and above.
func composeFile() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find this directory: %w", err)
	}
	for {
		file := filepath.Join(dir, "docker-compose.yml")
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find docker-compose.yml: not in this directory nor above")
		}
		dir = up
	}
}
