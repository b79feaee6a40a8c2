package telemetry

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// repeatEvery is how often a warning or an error that repeats is written.
	repeatEvery = time.Minute
	// maxRepeats bounds the lines that are remembered.
	maxRepeats = 1000
)

// limited is a handler that writes a warning or an error once, and then at most once in repeatEvery with the number of lines that
// were left out. Lines are the same if level, message and subject are: what is different in a partition, an offset or an error does
// not count for a warning, so that a fault of many partitions is one line; for an error the partition counts.
type limited struct {
	next    slog.Handler
	subject string // of the attributes of With
	// namespace is that of the whole process; parts of it that state it again are not repeated.
	namespace string
	seen      *repeats
}

func newLimited(next slog.Handler) slog.Handler {
	return limited{next: next, seen: &repeats{lines: map[string]repeat{}, now: time.Now}}
}

// Enabled asks the next handler.
func (h limited) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle writes r, or counts it.
func (h limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		key := &strings.Builder{}
		key.WriteString(r.Level.String() + "\x00" + r.Message + "\x00" + h.subject)
		r.Attrs(func(a slog.Attr) bool {
			key.WriteString(subjectOf(a, r.Level))
			return true
		})
		write, suppressed := h.seen.note(r.Level, key.String())
		if !write {
			return nil
		}
		if suppressed > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("suppressed", suppressed))
		}
	}
	return h.next.Handle(ctx, r) //nolint:wrapcheck // it is the handler
}

// WithAttrs is that of slog.Handler.
func (h limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs = slices.DeleteFunc(slices.Clone(attrs), func(a slog.Attr) bool { return a.Key == "namespace" && a.Value.String() == h.namespace })
	h.next = h.next.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == "namespace" {
			h.namespace = a.Value.String()
		}
		h.subject += subjectOf(a, slog.LevelError)
	}
	return h
}

// WithGroup is that of slog.Handler.
func (h limited) WithGroup(name string) slog.Handler {
	h.next = h.next.WithGroup(name)
	return h
}

// subjectOf returns the part of an attribute that distinguishes lines; "" for what changes from one repetition to the next.
func subjectOf(a slog.Attr, l slog.Level) string {
	switch a.Key {
	case "component", "dataset", "topic", "lane", "step", "server", "broker", "setting", "actor", "route", "status", "replay", "node", "tier", "reason":
	case "partition":
		if l < slog.LevelError {
			return ""
		}
	default:
		return ""
	}
	return a.Key + "=" + a.Value.String() + "\x00"
}

// repeats remembers the lines that were written lately.
type repeats struct {
	now func() time.Time

	mu    sync.Mutex
	lines map[string]repeat // guarded by mu
	// warnings and errors count what was left out; guarded by mu.
	warnings, errors uint64
}

type repeat struct {
	written    time.Time
	suppressed int
}

// note reports whether a line is to be written, and how many equal ones were not since the last time.
func (s *repeats) note(l slog.Level, key string) (write bool, suppressed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	last, known := s.lines[key]
	if known && now.Sub(last.written) < repeatEvery {
		last.suppressed++
		s.lines[key] = last
		if l >= slog.LevelError {
			s.errors++
		} else {
			s.warnings++
		}
		return false, 0
	}
	if !known && len(s.lines) >= maxRepeats {
		for k, old := range s.lines {
			if now.Sub(old.written) >= repeatEvery {
				delete(s.lines, k)
			}
		}
		if len(s.lines) >= maxRepeats {
			return true, 0 // too many different lines are no repetition
		}
	}
	s.lines[key] = repeat{written: now}
	return true, last.suppressed
}

// suppressed returns how many warnings or errors were left out.
func (s *repeats) suppressed(l slog.Level) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l >= slog.LevelError {
		return s.errors
	}
	return s.warnings
}
