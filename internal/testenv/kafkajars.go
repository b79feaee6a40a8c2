package testenv

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// kafkaVersion is the Apache Kafka that tests run against; kafka/pom.xml names it too.
const kafkaVersion = "4.4.0"

//go:embed kafka/pom.xml
var kafkaPOM []byte

//go:embed kafka/log4j2.properties
var kafkaLog4j []byte

// errNoKafka: Java is there or not, but Kafka's jars cannot be had.
var errNoKafka = errors.New("no Apache Kafka")

// kafkaJars is Apache Kafka in the user's cache directory: 45 jars from Maven Central, and a class archive that halves
// the time to boot.
type kafkaJars struct {
	home string
	bin  string // java
	jars []string
}

// kafkaDist finds Kafka, or fetches it once for all processes of this machine.
func kafkaDist(ctx context.Context, l *launcher) (*kafkaJars, error) {
	java, err := program("install openjdk-17-jre-headless", "java")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoKafka, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	d := &kafkaJars{bin: java, home: filepath.Join(cache, "freshet", "kafka-"+kafkaVersion)}
	if err := os.MkdirAll(d.home, 0o700); err != nil {
		return nil, fmt.Errorf("make cache directory: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(d.home, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.fetch(ctx, l); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoKafka, err)
	}
	if d.jars, err = filepath.Glob(filepath.Join(d.home, "jars", "*.jar")); err != nil || len(d.jars) == 0 {
		return nil, fmt.Errorf("%w: no jars in the cache (%w)", errNoKafka, err)
	}
	slices.Sort(d.jars) // a class archive fits one order of the class path only
	if err := d.archive(ctx, l); err != nil {
		fmt.Fprintf(os.Stderr, "testenv: no class archive for Kafka, it boots slower: %v\n", err)
	}
	return d, nil
}

// fetch asks Maven for the jars. A folder is complete or absent: Maven fills another one that is renamed at the end.
func (d *kafkaJars) fetch(ctx context.Context, l *launcher) error {
	for name, content := range map[string][]byte{"pom.xml": kafkaPOM, "log4j2.properties": kafkaLog4j} {
		if err := os.WriteFile(filepath.Join(d.home, name), content, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	jars := filepath.Join(d.home, "jars")
	if _, err := os.Stat(jars); err == nil {
		return nil
	}
	mvn, err := program("install maven", "mvn")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "testenv: fetching Apache Kafka %s by Maven, once (43 MB)\n", kafkaVersion)
	part := filepath.Join(d.home, "jars.part")
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("remove half a download: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.Command(mvn, "-q", "-B", "-f", filepath.Join(d.home, "pom.xml"), "dependency:copy-dependencies",
		"-DoutputDirectory="+part, "-DincludeScope=runtime")
	if err := l.run(ctx, "mvn", cmd, filepath.Join(d.home, "mvn.log")); err != nil {
		return err
	}
	if err := os.Rename(part, jars); err != nil {
		return fmt.Errorf("keep the jars: %w", err)
	}
	return nil
}

// jsa is the class archive for this Java; another Java does not take it.
func (d *kafkaJars) jsa() string {
	java, err := filepath.EvalSymlinks(d.bin)
	if err != nil {
		java = d.bin
	}
	sum := sha256.New()
	fmt.Fprintln(sum, java)
	if info, err := os.Stat(java); err == nil {
		fmt.Fprintln(sum, info.Size(), info.ModTime().UnixNano())
	}
	return filepath.Join(d.home, fmt.Sprintf("classes-%x.jsa", sum.Sum(nil)[:6]))
}

// archived is the flag that uses the class archive.
func (d *kafkaJars) archived() string { return "-XX:SharedArchiveFile=" + d.jsa() }

// archive boots a broker once to note which classes it loads.
func (d *kafkaJars) archive(ctx context.Context, l *launcher) error {
	if _, err := os.Stat(d.jsa()); err == nil {
		return nil
	}
	dir, err := serverDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	controller, err := freePort(ctx)
	if err != nil {
		return err
	}
	conf, cluster := filepath.Join(dir, "server.properties"), clusterID()
	if err := os.WriteFile(conf, properties(dir, port, controller, KafkaOptions{}), 0o600); err != nil {
		return fmt.Errorf("write server.properties: %w", err)
	}
	if err := d.format(ctx, l, dir, cluster); err != nil {
		return err
	}
	part := filepath.Join(dir, "classes.jsa")
	p, err := l.start("kafka", d.java("-XX:ArchiveClassesAtExit="+part, "kafka.Kafka", conf), filepath.Join(dir, "kafka.log"))
	if err != nil {
		return err
	}
	s := &KafkaServer{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Version: kafkaVersion}
	if err := p.ready(ctx, func(ctx context.Context) error { return s.ask(ctx, cluster) }); err != nil {
		return kill(p, err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := p.terminate(ctx); err != nil {
		return err
	}
	return moveFile(part, d.jsa())
}

// format prepares a directory for a broker. StorageTool also notes the features of the version, which a meta.properties
// by hand would leave at zero.
func (d *kafkaJars) format(ctx context.Context, l *launcher, dir, cluster string) error {
	cmd := d.java(d.archived(), "kafka.tools.StorageTool", "format", "-t", cluster, "-c", filepath.Join(dir, "server.properties"))
	return l.run(ctx, "kafka format", cmd, filepath.Join(dir, "format.log"))
}

// java runs a class of Kafka's in a small machine that starts fast.
func (d *kafkaJars) java(archive, class string, args ...string) *exec.Cmd {
	flags := []string{
		"-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", archive, "-Xlog:disable",
		"-Xlog:all=error:stderr", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile=file:" + filepath.Join(d.home, "log4j2.properties"),
		"-cp", strings.Join(d.jars, string(os.PathListSeparator)), class,
	}
	return exec.Command(d.bin, append(flags, args...)...)
}

// moveFile renames across file systems too: the copy gets its name only when it is complete.
func moveFile(from, to string) error {
	b, err := os.ReadFile(filepath.Clean(from))
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(from), err)
	}
	if err := os.WriteFile(to+".part", b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(to), err)
	}
	if err := os.Rename(to+".part", to); err != nil {
		return fmt.Errorf("keep %s: %w", filepath.Base(to), err)
	}
	return nil
}

// lock takes a file lock that the kernel frees when its holder dies.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = until(ctx, func(context.Context) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take lock of %s: %w", filepath.Dir(path), err), f.Close())
	}
	return func() { f.Close() }, nil //nolint:errcheck // closing frees the lock, whatever it says
}
