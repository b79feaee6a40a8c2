package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger writes to w at the level ("debug", "info", "warn", "error"; else info) in the format ("json", else text).
// Durations are numbers of seconds. Warnings and errors that repeat are limited to one a minute.
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: inSeconds}
	if format == "json" {
		return slog.New(newLimited(slog.NewJSONHandler(w, opts)))
	}
	return slog.New(newLimited(slog.NewTextHandler(w, opts)))
}

// inSeconds writes durations as seconds, as metrics and the admin API do; slog's JSON has nanoseconds, without a unit.
func inSeconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.Float64Value(a.Value.Duration().Seconds())
	}
	return a
}
