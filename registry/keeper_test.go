package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet/freshet/registry"
)

// board is a registry in memory that refuses while broken is set.
type board struct {
	broken atomic.Bool
	mu     sync.Mutex // guards calls
	calls  []string
}

func (b *board) note(call string) error {
	if b.broken.Load() {
		return errors.New("it is away")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, call)
	return nil
}

func (b *board) Register(_ context.Context, i registry.Instance) error {
	return b.note(string(i.Status))
}

func (b *board) Deregister(_ context.Context, i registry.Instance) error {
	return b.note("left " + i.ID)
}
func (b *board) TTL() time.Duration { return 15 * time.Second }

func (b *board) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

func good() registry.Instance {
	return registry.Instance{ID: "w-1", Role: "worker", Namespace: "shop", Address: "w1:7788", Status: registry.Passing}
}

// A Keeper renews every third of the TTL, tells a change of status within a second, and leaves when it ends.
func TestKeeperRenewsAndLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &board{}
		var bad atomic.Bool
		k, err := registry.New(registry.Config{Registry: b, Instance: func() registry.Instance {
			i := good()
			if bad.Load() {
				i.Status = registry.Warning
			}
			return i
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		wait := func(d time.Duration, want ...string) {
			t.Helper()
			<-time.After(d) // of the bubble
			synctest.Wait()
			if got := b.taken(); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		wait(0, "passing")
		wait(4900*time.Millisecond, "passing")
		wait(200*time.Millisecond, "passing", "passing")
		bad.Store(true)
		wait(1100*time.Millisecond, "passing", "passing", "warning")
		if s := k.Stats(); !s.Listed || s.Failures != 0 || k.Problems() != nil {
			t.Errorf("stats: %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wait(0, "passing", "passing", "warning", "left w-1")
		if k.Stats().Listed {
			t.Error("it is listed after it left")
		}
	})
}

// A registry that is away is tried again, shows in Stats and Problems, and delays nothing when the process ends.
func TestKeeperTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &board{}
		b.broken.Store(true)
		k, err := registry.New(registry.Config{Registry: b, Instance: good})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		<-time.After(time.Minute)
		synctest.Wait()
		s := k.Stats()
		if s.Listed || s.Failures < 8 || s.Failures > 40 || s.Err == nil || time.Since(s.Since) < 59*time.Second {
			t.Errorf("stats: %+v", s)
		}
		if p := k.Problems(); len(p) != 1 || !strings.Contains(p[0], "it is away") {
			t.Errorf("problems: %q", p)
		}
		b.broken.Store(false)
		<-time.After(10 * time.Second)
		synctest.Wait()
		if s := k.Stats(); !s.Listed || s.Err != nil || k.Problems() != nil {
			t.Errorf("stats: %+v", s)
		}
		b.broken.Store(true)
		<-time.After(10 * time.Second)
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) > 2*time.Second {
			t.Errorf("ended with %v after %s", err, time.Since(began))
		}
		if p := k.Problems(); p != nil {
			t.Errorf("problems after the end: %q", p)
		}
	})
}

func TestKeeperRefusesWhatCannotBeListed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*registry.Instance){
		"ID": func(i *registry.Instance) { i.ID = "a/b" }, "Role": func(i *registry.Instance) { i.Role = "" },
		"Namespace": func(i *registry.Instance) { i.Namespace = "a b" }, "Address": func(i *registry.Instance) { i.Address = ":80" },
	} {
		i := good()
		change(&i)
		_, err := registry.New(registry.Config{Registry: &board{}, Instance: func() registry.Instance { return i }})
		if !errors.Is(err, registry.ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cfg := range []registry.Config{{Instance: good}, {Registry: &board{}}} {
		if _, err := registry.New(cfg); !errors.Is(err, registry.ErrConfig) {
			t.Errorf("got %v", err)
		}
	}
	if host, port, err := (registry.Instance{Address: "https://w1.internal:7788"}).HostPort(); host != "w1.internal" || port != 7788 || err != nil {
		t.Errorf("%s, %d, %v", host, port, err)
	}
}
