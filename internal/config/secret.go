package config

import "log/slog"

// Secret is text that is never printed: every way of formatting it gives "***" (or "" when it is empty). Reveal gives
// the text.
type Secret string

const mask = "***"

// Reveal gives the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String gives "***", or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// GoString is String for %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue is String for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String for JSON, YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
