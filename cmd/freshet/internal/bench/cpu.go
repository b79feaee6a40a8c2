package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/replica"
)

// cpuWatch reads how much CPU this process and the servers used, as far as they run on this machine: from /proc, so on
// Linux only; elsewhere it knows nothing and says so by silence.
type cpuWatch struct {
	pids   map[string]int
	before map[string]float64
}

// clockTick is USER_HZ, which Linux fixes at 100 for everything that /proc shows.
const clockTick = 100

// newCPUWatch watches Kafka too and, with db, MySQL and Redis.
func newCPUWatch(ctx context.Context, c config.Config, db *replica.DB) *cpuWatch {
	w := &cpuWatch{pids: map[string]int{"worker": os.Getpid()}}
	if len(c.Kafka.Brokers) > 0 {
		w.add("kafka", listenerOf(c.Kafka.Brokers[0]))
	}
	if db == nil {
		return w
	}
	var pidFile string
	if err := db.SQL().QueryRowContext(ctx, "SELECT @@pid_file").Scan(&pidFile); err == nil {
		if b, err := os.ReadFile(pidFile); err == nil {
			pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
			w.add("mysql", pid)
		}
	}
	if rdb, err := connect.Redis(c); err == nil {
		defer rdb.Close()
		if info, err := rdb.Info(ctx, "server").Result(); err == nil {
			_, rest, _ := strings.Cut(info, "process_id:")
			id, _, _ := strings.Cut(rest, "\r\n")
			pid, _ := strconv.Atoi(id)
			w.add("redis", pid)
		}
	}
	return w
}

func (w *cpuWatch) add(name string, pid int) {
	if pid > 0 {
		w.pids[name] = pid
	}
}

func (w *cpuWatch) read() map[string]float64 {
	out := map[string]float64{}
	for name, pid := range w.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ") // the name may hold anything
		f := strings.Fields(rest)
		if len(f) < 13 {
			continue
		}
		user, _ := strconv.ParseFloat(f[11], 64)
		sys, _ := strconv.ParseFloat(f[12], 64)
		out[name] = (user + sys) / clockTick
	}
	return out
}

func (w *cpuWatch) start() { w.before = w.read() }

// perEvent returns the microseconds of CPU per event since start.
func (w *cpuWatch) perEvent(events int) map[string]float64 {
	out := map[string]float64{}
	for name, now := range w.read() {
		out[name] = (now - w.before[name]) * 1e6 / float64(events)
	}
	return out
}

// printCPU prints what each process used in two ways that did the same work.
func printCPU(out io.Writer, one map[string]float64, what string, other map[string]float64, otherWhat string) {
	for _, n := range slices.Sorted(maps.Keys(one)) {
		fmt.Fprintf(out, "CPU of %-12s %.1f µs/event with %s, %.1f %s\n", n, one[n], what, other[n], otherWhat)
	}
}

// forgetPeak returns free memory to the system and lets the kernel count the peak of the resident size again.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // where it cannot be, the peak is that of the whole run
}

// peakRSS is the greatest resident size of this process so far; 0 where /proc does not say.
func peakRSS() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(f[0], 10, 64)
	return kb << 10
}

// listenerOf returns the process that listens on a local TCP port, 0 if it cannot be found.
func listenerOf(addr string) int {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	want := fmt.Sprintf(":%04X", n)
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			col := strings.Fields(sc.Text())
			if len(col) > 9 && strings.HasSuffix(col[1], want) && col[3] == "0A" {
				inodes["socket:["+col[9]+"]"] = true
			}
		}
		_ = f.Close()
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && inodes[link] {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			return pid
		}
	}
	return 0
}
