package config

import (
	"bytes"
	"errors"
	"log/slog"
)

// Secret is text that is never printed: every way of formatting it prints "***" (or "" when it is empty). Reveal returns
// the text.
type Secret string

const mask = "***"

// ReadSecret returns the secret that a file's contents are; line ends after it do not count, and an empty one is refused.
func ReadSecret(contents []byte) (Secret, error) {
	text := bytes.TrimRight(contents, "\r\n")
	if len(text) == 0 {
		return "", errors.New("the file is empty")
	}
	return Secret(text), nil
}

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "***", or "" for an empty secret.
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
