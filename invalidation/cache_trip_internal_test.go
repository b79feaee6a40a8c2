package invalidation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type valueKey struct{}

// A loader's context has the values of its reader, not its end, and ends once and for one reason, whenever that is asked for.
func TestLoadContext(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	for name, c := range map[string]struct {
		early bool // Done is called before the end
		act   func(c *loadContext)
		want  error
	}{
		"under way":                    {false, func(*loadContext) {}, nil},
		"under way, watched":           {true, func(*loadContext) {}, nil},
		"returned":                     {false, (*loadContext).end, context.Canceled},
		"returned, watched":            {true, (*loadContext).end, context.Canceled},
		"too late":                     {false, func(*loadContext) { <-time.After(2 * timeout) }, context.DeadlineExceeded},
		"too late, watched":            {true, func(*loadContext) { <-time.After(2 * timeout) }, context.DeadlineExceeded},
		"returned, then past deadline": {false, func(c *loadContext) { c.end(); <-time.After(2 * timeout) }, context.Canceled},
		"past deadline, then returned": {false, func(c *loadContext) { <-time.After(2 * timeout); _ = c.Err(); c.end() }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reader, leave := context.WithCancelCause(context.WithValue(t.Context(), valueKey{}, "v"))
				ctx := &loadContext{reader: reader, until: time.Now().Add(timeout)}
				if c.early {
					_ = ctx.Done()
				}
				leave(errors.New("the reader has left"))
				c.act(ctx)
				if err := ctx.Err(); !errors.Is(err, c.want) {
					t.Errorf("Err is %v, want %v", err, c.want)
				}
				select {
				case <-ctx.Done():
					if c.want == nil {
						t.Error("Done is closed")
					}
				default:
					if c.want != nil {
						t.Error("Done is not closed")
					}
				}
				if err := ctx.Err(); !errors.Is(err, c.want) {
					t.Errorf("Err is %v after Done, want %v", err, c.want)
				}
				if err := context.Cause(ctx); !errors.Is(err, c.want) {
					t.Errorf("the cause is %v, want %v", err, c.want)
				}
				if v := ctx.Value(valueKey{}); v != "v" {
					t.Errorf("Value is %v, want the reader's", v)
				}
				ctx.end() // or the bubble waits for the deadline
			})
		})
	}
}

// What loaders derive from their context ends with it, at once: no goroutine has to pass the end on.
func TestLoadContextHasChildren(t *testing.T) {
	t.Parallel()
	ctx := &loadContext{reader: t.Context(), until: time.Now().Add(time.Hour)}
	child, cancel := context.WithCancel(context.WithValue(ctx, valueKey{}, "v"))
	defer cancel()
	if err := child.Err(); err != nil {
		t.Fatalf("a child has ended: %v", err)
	}
	ctx.end()
	if err := child.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("a child has the error %v once its parent has ended", err)
	}
}

// One timer serves all loads: each is given up at its own time, and those of a closed node soon after that.
func TestOverdueTripsEndInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &Node{began: time.Now(), log: slog.New(slog.DiscardHandler)}
		n.ctx, n.cancel = context.WithCancel(t.Context())
		fs := &flights[string]{
			core:   &core[string]{cfg: CacheConfig[string]{LoadTimeout: time.Second}, node: n, stats: &cacheCounts{now: n.now, log: n.log}},
			byName: map[string]*flight[string]{},
		}
		context.AfterFunc(n.ctx, fs.close)
		begin := func() *flight[string] {
			if !n.enter() {
				t.Fatal("the node is closed")
			}
			fs.mu.Lock()
			defer fs.mu.Unlock()
			f := &flight[string]{began: n.now(), done: make(chan struct{})}
			fs.departAlone(t.Context(), f)
			return f
		}
		ends := func(f *flight[string], at time.Duration, want error) {
			t.Helper()
			_, err := f.wait(t.Context())
			if took := time.Since(n.began).Round(time.Millisecond); took != at || !errors.Is(err, want) {
				t.Errorf("a load ended after %v with %v, want after %v with %v", took, err, at, want)
			}
		}
		first := begin()
		<-time.After(300 * time.Millisecond)
		second, third := begin(), begin()
		fs.end(second, Loaded[string]{Value: "v", Found: true}, nil, "")
		fs.arrive(&second.trip)
		ends(first, time.Second+loaderGrace, context.DeadlineExceeded)
		fs.arrive(&first.trip) // its loader returns after all
		ends(third, 1300*time.Millisecond+loaderGrace, context.DeadlineExceeded)
		<-time.After(10 * time.Second) // the timer has stopped
		fourth := begin()
		<-time.After(100 * time.Millisecond)
		n.cancel()
		synctest.Wait()
		if err := fourth.trip.ctx.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("the context of a load of a closed node has the error %v", err)
		}
		began := time.Since(n.began)
		ends(fourth, (began + loaderGrace).Round(time.Millisecond), ErrClosed)
		n.wg.Wait() // all have left
		if got := fs.stats.abandoned.Load(); got != 3 {
			t.Errorf("%d loads abandoned, want 3", got)
		}
	})
}

// work is a job of a crew for tests.
type work struct{ done *sync.WaitGroup }

func (w work) run() { w.done.Done() }

// Goroutines that ran a fill wait for the next one, a bounded number of them, until the node is closed.
func TestCrewIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // ends only once all goroutines have
		n := &Node{crew: crew{next: make(chan job)}}
		n.ctx, n.cancel = context.WithCancel(t.Context())
		var done sync.WaitGroup
		for range 3 {
			for range 2 * maxIdle {
				done.Add(1)
				n.start(work{&done})
			}
			done.Wait()
			synctest.Wait()
			if idle := n.crew.idle.Load(); idle != maxIdle {
				t.Errorf("%d goroutines wait, want %d", idle, maxIdle)
			}
		}
		n.mu.Lock()
		n.closed = true
		n.mu.Unlock()
		n.cancel()
		n.wg.Wait()
		if idle := n.crew.idle.Load(); idle != 0 {
			t.Errorf("%d goroutines wait after Close", idle)
		}
	})
}
