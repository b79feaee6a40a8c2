package main

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/consumer"
)

const (
	// defaultMemory is the least default of the soft limit of a worker's memory, and memoryGrowth the percentage by which its heap may grow between two
	// collections below that: a worker turns over much and keeps little, so most of what it has is garbage at any time.
	defaultMemory = 256 << 20
	// perBuffer is how many times what is fetched the default allows: rows, statements and emissions are made of it.
	perBuffer    = 4
	memoryGrowth = 400
	// cgroupShare is how much of a container's memory, in percent, the process may plan with: beside the heap the kernel counts
	// what it keeps for it, such as buffers of sockets.
	cgroupShare = 90
)

// buffers is how many bytes of Kafka a worker may hold at a time.
func buffers(c config.Worker) int64 {
	budget := int64(cmp.Or(c.FetchBudget, consumer.DefaultFetchBudget))
	return budget + budget/2 + int64(cmp.Or(c.Writers, consumer.DefaultWriters))*int64(cmp.Or(c.MaxBatchBytes, consumer.DefaultMaxBatchBytes))
}

// limitMemory sets the soft limit of this process's memory and lets the collector run seldom below it. Without a setting the limit
// follows from the worker's buffers; a negative one is none. A container that has less lowers it; GOMEMLIMIT and GOGC of the
// environment win. A limit that is near the buffers is logged as a warning: the collector would run all the time.
func limitMemory(ctx context.Context, c config.Worker, log *slog.Logger) {
	gogc, memlimit := os.Getenv("GOGC"), os.Getenv("GOMEMLIMIT")
	bytes, from := cmp.Or(int64(c.Memory), max(defaultMemory, perBuffer*buffers(c))), "worker.memory"
	if bytes < 0 {
		bytes = math.MaxInt64
	}
	if most := cgroupLimit(os.ReadFile); most > 0 && most/100*cgroupShare < bytes {
		bytes, from = most/100*cgroupShare, "cgroup"
	}
	if memlimit == "" {
		debug.SetMemoryLimit(bytes)
	} else {
		bytes, from = debug.SetMemoryLimit(-1), "GOMEMLIMIT"
	}
	switch {
	case gogc != "":
	case bytes == math.MaxInt64:
		gogc = "100" // without a limit nothing else bounds the heap
	default:
		debug.SetGCPercent(memoryGrowth)
		gogc = strconv.Itoa(memoryGrowth)
	}
	if bytes == math.MaxInt64 {
		log.InfoContext(ctx, "memory has no limit", "origin", from, "gogc", gogc)
		return
	}
	log.InfoContext(ctx, "memory is limited", "bytes", bytes, "origin", from, "gogc", gogc)
	if held := buffers(c); bytes < 2*held {
		log.WarnContext(ctx, "the limit of memory leaves little beside what is fetched, so collections of garbage take much CPU time; raise it, or lower worker.fetch_budget",
			"bytes", bytes, "origin", from, "fetch_bytes", held)
	}
}

// cgroupLimit returns the least memory limit of the groups that this process is in, 0 without one. A container sees its own
// group as the root, a service of systemd the path to its group.
func cgroupLimit(read func(name string) ([]byte, error)) int64 {
	least := int64(0)
	take := func(file string) {
		b, err := read(file)
		if err != nil {
			return // not this version of cgroups, or no group at this level
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n > 0 && n < math.MaxInt64/2 && (least == 0 || n < least) { // version 1 writes a very great number for none, 2 writes max
			least = n
		}
	}
	groups, err := read("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, _ := strings.Cut(rest, ":")
		root, file := "/sys/fs/cgroup", "memory.max"
		switch {
		case controllers == "":
		case strings.Contains(","+controllers+",", ",memory,"):
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
			take(path.Join(root, dir, file))
			if dir == "/" {
				break
			}
		}
	}
	return least
}
