package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// software is a package of Debian, and what shows that it is there: an executable, or a line for the shell.
type software struct{ pkg, program, probe string }

// needed lists the software of servers that the environment does not name.
func needed() []software {
	var all []software
	if os.Getenv(RedisVar) == "" {
		all = append(all, software{pkg: "redis-server", program: "redis-server"})
	}
	if os.Getenv(MySQLVar) == "" {
		all = append(all, software{pkg: "mariadb-server", program: "mariadbd"})
	}
	if os.Getenv(KafkaVar) == "" {
		all = append(all, software{pkg: "openjdk-17-jre-headless", program: "java"}, software{pkg: "maven", program: "mvn"})
	}
	return all
}

// extras lists what the tests of examples and of optional parts use, which are skipped without it. Debian's npm would bring 400 packages along,
// so where it is not there Debian's own Redis client does.
func extras() []software {
	return []software{
		{pkg: "haproxy", program: "haproxy"},
		{pkg: "nginx-light", program: "nginx"},
		{pkg: "prometheus", program: "promtool"},
		{pkg: "etcd-server", program: "etcd"},
		{pkg: "chromium", program: "chromium"},
		{pkg: "php-cli", program: "php"},
		{pkg: "php-redis", probe: `php -r "exit(extension_loaded('redis') ? 0 : 1);"`},
		{pkg: "php-mysql", probe: `php -r "exit(extension_loaded('pdo_mysql') ? 0 : 1);"`},
		{pkg: "python3-pymysql", probe: `python3 -c "import pymysql" || /usr/bin/python3 -c "import pymysql"`},
		{pkg: "python3-redis", probe: `python3 -c "import redis" || /usr/bin/python3 -c "import redis"`},
		{pkg: "nodejs", program: "node"},
		{pkg: "node-redis", probe: `npm --version || node -e "require('redis')"`},
	}
}

// lacking returns the Debian packages that are not here.
func lacking(ctx context.Context, all []software) []string {
	var pkgs []string
	for _, s := range all {
		var err error
		if s.probe != "" {
			err = exec.CommandContext(ctx, "sh", "-c", s.probe).Run()
		} else {
			_, err = program("", s.program)
		}
		if err != nil {
			pkgs = append(pkgs, s.pkg)
		}
	}
	return pkgs
}

// install asks apt-get for what is missing, when we are root and there is one. Only the programs are wanted: a policy
// that refuses services keeps the packages from starting servers of their own.
func install(ctx context.Context, out io.Writer) error {
	// Two steps: a package that this release of Debian lacks must not cost us the servers.
	servers, others := lacking(ctx, needed()), lacking(ctx, extras())
	if len(servers)+len(others) == 0 || os.Geteuid() != 0 {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return nil //nolint:nilerr // not Debian: Docker is asked next
	}
	undo, err := refuseServices()
	if err != nil {
		return err
	}
	err = aptGet(ctx, apt, "update", "-qq")
	for _, pkgs := range [][]string{servers, others} {
		if err != nil || len(pkgs) == 0 {
			continue
		}
		fmt.Fprintf(out, "testenv: installing %s\n", strings.Join(pkgs, " "))
		args := []string{"install", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"}
		err = aptGet(ctx, apt, append(args, pkgs...)...)
	}
	return errors.Join(err, undo())
}

func aptGet(ctx context.Context, apt string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, apt, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, b[max(0, len(b)-2000):])
	}
	return nil
}

// refuseServices puts Debian's policy-rc.d in place, if there is none; 101 means "not allowed".
func refuseServices() (undo func() error, err error) {
	const policy = "/usr/sbin/policy-rc.d"
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", policy, err)
	}
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("write %s: %w", policy, err)
	}
	return func() error { return os.Remove(policy) }, nil
}
