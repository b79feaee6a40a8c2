package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"unicode"
)

// printable writes text to a terminal with every control character but line feed and tab replaced. Reasons, keys and details
// come from other programs' data, and an escape sequence among them would rewrite what the reader sees.
type printable struct{ w io.Writer }

// Write writes p without its control characters; n counts the bytes of p.
func (w printable) Write(p []byte) (n int, err error) {
	text := strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			return unicode.ReplacementChar
		}
		return c
	}, string(p))
	if _, err := io.WriteString(w.w, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// redisLog passes what the Redis client logs by itself to the program's log, once that is known.
type redisLog struct{ log atomic.Pointer[slog.Logger] }

// use makes log the one that messages go to, and with them those of package log, which net/http and other libraries write to. A nil
// redisLog has none.
func (r *redisLog) use(log *slog.Logger) {
	if r != nil {
		r.log.Store(log)
		slog.SetDefault(log)
	}
}

// Printf logs one message.
func (r *redisLog) Printf(ctx context.Context, format string, a ...any) {
	if log := r.log.Load(); log != nil {
		log.WarnContext(ctx, "redis client", "component", "redis", "detail", fmt.Sprintf(format, a...))
	}
}
