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

// software is what the servers need: Debian's package, and an executable that shows that it is there.
type software struct{ pkg, program string }

// needed lists the software of servers that the environment does not name.
func needed() []software {
	var all []software
	if os.Getenv(RedisVar) == "" {
		all = append(all, software{"redis-server", "redis-server"})
	}
	if os.Getenv(MySQLVar) == "" {
		all = append(all, software{"mariadb-server", "mariadbd"})
	}
	if os.Getenv(KafkaVar) == "" {
		all = append(all, software{"openjdk-17-jre-headless", "java"}, software{"maven", "mvn"})
	}
	return all
}

// lackingSoftware gives the Debian packages that are not here.
func lackingSoftware() []string {
	var pkgs []string
	for _, s := range needed() {
		if _, err := program("", s.program); err != nil {
			pkgs = append(pkgs, s.pkg)
		}
	}
	return pkgs
}

// install asks apt-get for what is missing, when we are root and there is one. Only the programs are wanted: a policy
// that refuses services keeps the packages from starting servers of their own.
func install(ctx context.Context, out io.Writer) error {
	pkgs := lackingSoftware()
	if len(pkgs) == 0 || os.Geteuid() != 0 {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return nil //nolint:nilerr // not Debian: Docker is asked next
	}
	fmt.Fprintf(out, "testenv: installing %s\n", strings.Join(pkgs, " "))
	undo, err := refuseServices()
	if err != nil {
		return err
	}
	err = aptGet(ctx, apt, "update", "-qq")
	if err == nil {
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
