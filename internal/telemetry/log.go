// Package telemetry turns the Stats of Freshet's parts into metrics, and makes the logger. Client packages never import
// it: they expose Stats and take a logger.
package telemetry

import (
	"io"
	"log/slog"
)

// NewLogger writes to w at the level ("debug", "info", "warn", "error"; else info) in the format ("json", else text).
func NewLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
