package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// childVar makes this test binary a worker with a failpoint; its value is a childConfig as JSON.
const childVar = "FRESHET_E2E_WORKER"

// childConfig states where a worker works and where it is stopped.
type childConfig struct {
	Brokers             []string
	DSN, Redis          string
	Namespace, Datasets string
	Owner               string
	Session             time.Duration
	MaxRecords          int
	// Replays: it runs replays too.
	Replays bool
	// Point is where it is stopped the Nth time.
	Point string
	Nth   int64
	// Freeze stops the whole process there, as SIGSTOP does, until it is continued; then it continues from there.
	Freeze bool
}

// pointHalfEmitted is between two scripts of one emission.
const pointHalfEmitted = "half-emitted"

// points are all places at which a worker can be stopped.
func points() []string {
	return []string{
		worker.PointAfterFetch, worker.PointInApply, worker.PointAfterApply, pointHalfEmitted, worker.PointInEmit,
		worker.PointAfterEmit, worker.PointBeforeCommit,
	}
}

// workerChild is the other side: it works until it reaches its point, says so on descriptor 3, and is stopped there.
func workerChild() (code int, child bool) {
	text := os.Getenv(childVar)
	if text == "" {
		return 0, false
	}
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, "worker child:", err)
		return 2, true
	}
	if err := c.work(os.NewFile(3, "parent")); err != nil {
		fmt.Fprintln(os.Stderr, "worker child:", err)
		return 1, true
	}
	return 0, true
}

func (c childConfig) work(parent io.Writer) error {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var seen atomic.Int64
	failpoint := func(point string) {
		if point == c.Point && seen.Add(1) == c.Nth {
			fmt.Fprintln(parent, point)
			if !c.Freeze {
				select {} // until it is killed
			}
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // it cannot fail for ourselves
		}
	}
	set, err := schemas.LoadDatasets(os.DirFS(c.Datasets))
	if err != nil {
		return err
	}
	kafka, err := kafkalog.New(kafkalog.Config{Brokers: c.Brokers, Logger: log})
	if err != nil {
		return err
	}
	db, err := replica.Open(ctx, replica.Config{
		MySQL: mysql.Config{DSN: c.DSN, LockWait: time.Second, Logger: log}, SessionTimeout: c.Session, BeforeCommit: func() { failpoint(worker.PointInApply) },
	})
	if err != nil {
		return err
	}
	if broken, err := db.Prepare(ctx, set.All()); err != nil || len(broken) > 0 {
		return errors.Join(err, fmt.Errorf("%d broken datasets", len(broken)))
	}
	emitter, err := invalidation.NewEmitter(redis.NewClient(&redis.Options{Addr: c.Redis}), invalidation.EmitterConfig{Namespace: c.Namespace, Logger: log})
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{
		Group: c.Namespace, Owner: c.Owner, Datasets: set, Kafka: kafka, Replica: db, LaneLog: db.Lanes(c.Namespace),
		Namespace: c.Namespace, BindTo: c.Namespace, Logger: log, Failpoint: failpoint,
		Emitter:  &halves{Emitter: emitter, failpoint: failpoint},
		Consumer: group.Config{SessionTimeout: c.Session, MaxRecords: c.MaxRecords, CommitInterval: 200 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	if c.Replays {
		if err := c.replays(ctx, w, set, kafka, log, failpoint); err != nil {
			return err
		}
	}
	return w.Run(ctx)
}

// replays runs replays beside the worker.
func (c childConfig) replays(ctx context.Context, w *worker.Worker, set *schemas.Datasets, kafka *kafkalog.Client, log *slog.Logger, failpoint func(string)) error {
	db, err := replica.Open(ctx, replica.Config{MySQL: mysql.Config{DSN: c.DSN, LockWait: time.Second, Logger: log}, SessionTimeout: c.Session})
	if err != nil {
		return err
	}
	if broken, err := db.Prepare(ctx, set.All()); err != nil || len(broken) > 0 {
		return errors.Join(err, fmt.Errorf("%d broken datasets", len(broken)))
	}
	r, err := jobs.New(jobs.Config{
		Owner: c.Owner, Namespace: c.Namespace, Datasets: set, Kafka: kafka, Replica: db, Lanes: w, Logger: log, Failpoint: failpoint,
		LookInterval: 100 * time.Millisecond, Lease: time.Second,
	})
	if err == nil {
		go func() { _ = r.Run(ctx) }()
	}
	return err
}

// halves emits in two scripts, as an emission of more than a hundred keys goes out: the watermark moves with the second.
type halves struct {
	worker.Emitter

	failpoint func(string)
}

func (h *halves) Emit(ctx context.Context, n int, root string, start int64, e lane.Emission) (lane.Reply, error) {
	if len(e.Items) > 1 {
		part := e
		part.Items, part.To = e.Items[:len(e.Items)/2], e.From-1
		if r, err := h.Emitter.Emit(ctx, n, root, start, part); err != nil || r.Status != lane.OK {
			return r, err
		}
		h.failpoint(pointHalfEmitted)
		e.Items = e.Items[len(e.Items)/2:]
	}
	return h.Emitter.Emit(ctx, n, root, start, e)
}

// child is a worker that is stopped at a point.
type child struct {
	*testenv.Process

	owner   string
	reached chan struct{} // closed when it is stopped
}

// startChild starts this executable as a worker that is stopped the nth time that it reaches point; "" never.
func (w *world) startChild(point string, nth int64) *child {
	w.t.Helper()
	return w.startChildAs(childConfig{Point: point, Nth: nth})
}

// startFreezing starts a worker that stops itself there.
func (w *world) startFreezing(point string, nth int64) *child {
	w.t.Helper()
	return w.startChildAs(childConfig{Point: point, Nth: nth, Freeze: true})
}

func (w *world) startChildAs(how childConfig) *child {
	w.t.Helper()
	w.workers++
	point := how.Point
	c := childConfig{
		Brokers: w.kafka.Brokers, DSN: w.dsn, Redis: w.redis.Addr, Namespace: w.ns, Datasets: w.dir, Session: faultSession, MaxRecords: 40,
		Owner: w.ns + strconv.Itoa(w.workers), Point: point, Nth: how.Nth, Freeze: how.Freeze, Replays: how.Replays,
	}
	if w.ownUsers {
		c.DSN = w.userDSN(c.Owner)
	}
	text, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	r, out, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+string(text))
	cmd.ExtraFiles = []*os.File{out}
	ch := &child{owner: c.Owner, reached: make(chan struct{})}
	ch.Process = testenv.StartProcess(w.t, c.Owner, cmd)
	if err := out.Close(); err != nil {
		w.t.Error(err)
	}
	go func() {
		defer r.Close()
		if line, err := bufio.NewReader(r).ReadString('\n'); err == nil && strings.TrimSpace(line) == point {
			close(ch.reached)
		}
	}()
	return ch
}

// awaitPoint waits until the child is stopped.
func (c *child) awaitPoint(t *testing.T) {
	t.Helper()
	select {
	case <-c.reached:
	case <-c.Done():
		t.Fatalf("the worker ended before it reached its point: %v", c.Err())
	case <-time.After(healLimit):
		t.Fatal("the worker does not reach its point: its partitions are not taken over, or nothing flows")
	}
}
