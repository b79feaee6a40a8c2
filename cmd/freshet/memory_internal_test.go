package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
)

func TestCgroupLimit(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no cgroups":           {nil, 0},
		"version 2, no limit":  {map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 2, container": {map[string]string{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "268435456\n"}, 256 << 20},
		"version 2, a group above has less": {map[string]string{
			"/proc/self/cgroup": "0::/system.slice/freshet.service\n", "/sys/fs/cgroup/system.slice/freshet.service/memory.max": "536870912\n",
			"/sys/fs/cgroup/system.slice/memory.max": "268435456\n",
		}, 256 << 20},
		"version 1": {map[string]string{
			"/proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n", "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "134217728\n",
			"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 128 << 20},
		"version 1, no limit": {map[string]string{"/proc/self/cgroup": "4:memory:/\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := cgroupLimit(func(file string) ([]byte, error) {
				if text, ok := c.files[file]; ok {
					return []byte(text), nil
				}
				return nil, errors.New("no such file")
			})
			if got != c.want {
				t.Errorf("limit %d, want %d", got, c.want)
			}
		})
	}
}

func TestLimitMemory(t *testing.T) {
	limit, growth := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(growth)
	})
	const small = 64 << 20 // no machine that runs tests has less
	const tight = "the limit of memory leaves little"
	for _, c := range []struct {
		name, gogc, memlimit string
		worker               config.Worker
		limit                int64
		growth               int
		log                  string
	}{
		{"setting", "", "", config.Worker{Memory: small}, small, memoryGrowth, tight},
		{"room", "", "", config.Worker{Memory: small, FetchBudget: 8 << 20, MaxBatchBytes: 1 << 20}, small, memoryGrowth, "origin=worker.memory"},
		{"default", "", "", config.Worker{}, defaultMemory, memoryGrowth, "origin=worker.memory"},
		{"large buffers", "", "", config.Worker{FetchBudget: 64 << 20, Writers: 1}, 4 * (96 + 4) << 20, memoryGrowth, "origin=worker.memory"},
		{"environment", "70", "1GiB", config.Worker{Memory: small}, 1 << 30, 70, "origin=GOMEMLIMIT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOGC", c.gogc)
			t.Setenv("GOMEMLIMIT", c.memlimit)
			debug.SetMemoryLimit(math.MaxInt64)
			debug.SetGCPercent(100)
			if c.memlimit != "" { // the runtime reads both before main
				debug.SetMemoryLimit(c.limit)
				debug.SetGCPercent(c.growth)
			}
			var log bytes.Buffer
			limitMemory(t.Context(), c.worker, slog.New(slog.NewTextHandler(&log, nil)))
			if l, g := debug.SetMemoryLimit(-1), debug.SetGCPercent(100); l != c.limit || g != c.growth || !strings.Contains(log.String(), c.log) || c.log != tight && strings.Contains(log.String(), tight) {
				t.Errorf("limit %d, growth %d, log %s", l, g, log.String())
			}
		})
	}
}
