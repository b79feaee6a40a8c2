package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// brokerList is the addresses where a client may begin.
type brokerList struct {
	configured []string

	mu    sync.Mutex // guards what follows
	known []string   // addresses that the cluster named, beside the configured ones
	turn  int        // where the next bootstrap begins
}

// reach tries the brokers until one could be reached, and returns what try returned for it.
func (l *brokerList) reach(ctx context.Context, try func(addr string) (reached bool, err error)) error {
	var errs []error
	for _, addr := range l.addresses() {
		reached, err := try(addr)
		if reached {
			return err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("reach any broker of %s: %w", strings.Join(l.configured, ","), errors.Join(errs...))
}

// addresses returns the configured brokers, rotated, and then the others that the cluster named.
func (l *brokerList) addresses() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.configured)
	addrs := make([]string, 0, n+len(l.known))
	for i := range n {
		addrs = append(addrs, l.configured[(l.turn+i)%n])
	}
	l.turn = (l.turn + 1) % n
	return append(addrs, l.known...)
}

// learn remembers the addresses that the cluster named.
func (l *brokerList) learn(addrs []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = slices.DeleteFunc(slices.Clone(addrs), func(a string) bool { return slices.Contains(l.configured, a) })
}
