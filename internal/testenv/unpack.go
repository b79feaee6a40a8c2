package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// FlavorVar selects the software of MySQL and Redis: "" is MariaDB and Redis as the system has them; the flavors are
	// MySQL 9 with Valkey 9, or with Redis 8. Serve unpacks their Debian packages once in the user's cache directory, beside
	// the system: nothing is installed.
	FlavorVar = "FRESHET_TEST_FLAVOR"
	// BinVar is a folder whose programs are used before the system's. Serve sets it for a flavor.
	BinVar = "FRESHET_TEST_BIN"

	flavorValkey = "mysql+valkey"
	flavorRedis  = "mysql+redis"
)

// flavored returns the program of that name in the folder of BinVar.
func flavored(name string) (string, bool) {
	dir := os.Getenv(BinVar)
	if dir == "" {
		return "", false
	}
	path, err := exec.LookPath(filepath.Join(dir, name))
	return path, err == nil
}

// prepareFlavor makes the programs of the flavor that the environment asks for and sets BinVar for this process and its
// children.
func prepareFlavor(ctx context.Context, out io.Writer) error {
	flavor := os.Getenv(FlavorVar)
	if flavor == "" || os.Getenv(BinVar) != "" {
		return nil
	}
	if flavor != flavorValkey && flavor != flavorRedis {
		return fmt.Errorf("%s is %q; give %s, %s or nothing", FlavorVar, flavor, flavorValkey, flavorRedis)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	u := unpacked{dir: filepath.Join(cache, "freshet", "servers")}
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return fmt.Errorf("make cache directory: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(u.dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := u.fetch(ctx, out); err != nil {
		return fmt.Errorf("unpack the servers of %s: %w", flavor, err)
	}
	bin, err := u.wrap(flavor)
	if err != nil {
		return err
	}
	return os.Setenv(BinVar, bin)
}

// unpacked are Debian packages, with the libraries that they need, in a folder.
type unpacked struct{ dir string }

func (u unpacked) root() string { return filepath.Join(u.dir, "root") }

// fetch downloads and unpacks the packages unless they are there.
func (u unpacked) fetch(ctx context.Context, out io.Writer) error {
	if _, err := os.Stat(u.root()); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	fmt.Fprintln(out, "testenv: unpacking MySQL, Valkey and Redis from Debian's newest packages, once (60 MB)")
	apt, part := filepath.Join(u.dir, "apt"), filepath.Join(u.dir, "root.part")
	defer os.RemoveAll(apt) //nolint:errcheck // a cache
	if err := errors.Join(os.RemoveAll(apt), os.RemoveAll(part)); err != nil {
		return fmt.Errorf("remove half a download: %w", err)
	}
	for _, dir := range []string{filepath.Join(apt, "lists", "partial"), filepath.Join(apt, "cache", "archives", "partial")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	mirror, err := debianMirror(ctx)
	if err != nil {
		return err
	}
	list := filepath.Join(apt, "sources.list")
	if err := os.WriteFile(list, []byte("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "+mirror+" sid main\n"), 0o600); err != nil {
		return fmt.Errorf("write list of sources: %w", err)
	}
	options := []string{
		"-qq", "-y", "-oDir::Etc::SourceList=" + list, "-oDir::Etc::SourceParts=/nonexistent", "-oDir::State::Lists=" + filepath.Join(apt, "lists"),
		"-oDir::Cache=" + filepath.Join(apt, "cache"), "-oDir::State::status=/dev/null", "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root",
	}
	if err := aptGet(ctx, "apt-get", append(slices.Clone(options), "update")...); err != nil {
		return err
	}
	// With an empty status apt fetches all that the packages depend on, down to the C library.
	err = aptGet(ctx, "apt-get", append(options, "install", "--no-install-recommends", "--download-only", "mysql-server-core", "valkey-server", "redis-server")...)
	if err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(apt, "cache", "archives", "*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("apt-get fetched no package (%w)", err)
	}
	for _, deb := range debs {
		if b, err := exec.CommandContext(ctx, "dpkg", "-x", deb, part).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", filepath.Base(deb), err, b)
		}
	}
	if err := os.Rename(part, u.root()); err != nil {
		return fmt.Errorf("keep the packages: %w", err)
	}
	return nil
}

// debianMirror is the mirror that this machine fetches its packages from.
func debianMirror(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask apt-get for its mirror: %w", err)
	}
	for site := range strings.Lines(string(b)) {
		if site = strings.TrimSpace(site); strings.Contains(site, "debian") && !strings.Contains(site, "security") {
			return site, nil
		}
	}
	return "", errors.New("apt-get has no mirror of Debian; run apt-get update")
}

// wrap writes the programs of a flavor: shell scripts that run the servers with the libraries beside them.
func (u unpacked) wrap(flavor string) (bin string, err error) {
	libs, err := filepath.Glob(filepath.Join(u.root(), "usr", "lib", "*-linux-gnu*"))
	if err != nil || len(libs) != 1 {
		return "", fmt.Errorf("find the libraries of the unpacked servers: %d folders (%w)", len(libs), err)
	}
	loaders, err := filepath.Glob(filepath.Join(libs[0], "ld-linux*.so.*"))
	if err != nil || len(loaders) != 1 {
		return "", fmt.Errorf("find the loader of the unpacked servers: %d files (%w)", len(loaders), err)
	}
	run := func(path string, args ...string) string {
		quoted := append([]string{loaders[0], "--library-path", libs[0] + ":" + filepath.Join(libs[0], "systemd"), filepath.Join(u.root(), "usr", path)}, args...)
		for i, q := range quoted {
			quoted[i] = "'" + q + "'"
		}
		return "#!/bin/sh\nexec " + strings.Join(quoted, " ") + " \"$@\"\n"
	}
	share := filepath.Join(u.root(), "usr", "share", "mysql")
	scripts := map[string]string{
		"mysqld": run("sbin/mysqld", "--no-defaults", "--basedir="+filepath.Join(u.root(), "usr"), "--lc-messages-dir="+share,
			"--character-sets-dir="+filepath.Join(share, "charsets"), "--plugin-dir="+filepath.Join(u.root(), "usr", "lib", "mysql", "plugin"),
			"--secure-file-priv=NULL", "--mysqlx=OFF"),
		"redis-server": run("bin/redis-server"),
	}
	if flavor == flavorValkey {
		scripts["redis-server"] = run("bin/valkey-server")
	}
	bin = filepath.Join(u.dir, "bin-"+flavor)
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	return bin, nil
}
