package cdc

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// padded returns the bytes of a column; BINARY(n) has n of them, though logs leave out the zeros at the end.
func padded(b []byte, t schemas.ColumnType) cell {
	if t.Base == "binary" {
		for n := max(t.Length, 1); len(b) < n && n <= 255; {
			b = append(b, 0)
		}
	}
	return cell{cellBytes, string(b)}
}

// readBinary reads bytes as Debezium's binary.handling.mode writes them.
func readBinary(s string, form schemas.BinaryForm) ([]byte, bool) {
	var b []byte
	var err error
	switch form {
	case schemas.BinaryHex:
		b, err = hex.DecodeString(s)
	case schemas.BinaryBase64U:
		b, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	default:
		b, err = base64.StdEncoding.DecodeString(s)
	}
	return b, err == nil
}

// latin1 reads bytes that were written as the characters of the same code points.
func latin1(s string) ([]byte, bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xFF {
			return nil, false
		}
		b = append(b, byte(r))
	}
	return b, true
}

// littleEndian reads the bits of a BIT column.
func littleEndian(b []byte) (uint64, bool) {
	var n uint64
	for i, c := range b {
		if i >= 8 {
			if c != 0 {
				return 0, false
			}
			continue
		}
		n |= uint64(c) << (8 * i)
	}
	return n, true
}
