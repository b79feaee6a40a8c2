package lane

import (
	"bytes"
	"strings"
)

// maxHeader is the greatest length of a value's first line: 'V', four numbers of at most 16 digits, a length of 4.
const maxHeader = 73

// Value is a shared entry as Redis stores it.
//
//	V <version> <root> <seq at lease> <expiry ms> <n>\n<n bytes: tags joined by \n><data>
//
// It may be used only if its Root is the lane's and none of its tags was stamped after Seq; the get script looks.
type Value struct {
	// Version of the record, 0 for a value without one.
	Version int64
	// Root is the lane's root when the lease was given, Seq the lane's seq then.
	Root string
	Seq  int64
	// Expiry in Unix ms of the Redis server.
	Expiry int64
	Tags   []string
	// Data is a part of the parsed bytes.
	Data []byte
}

// ParseValue reads the bytes of a value key. ok is false for anything that is not a value, such as a lease: then the get
// script must be asked.
func ParseValue(b []byte) (v Value, ok bool) {
	end := bytes.IndexByte(b[:min(len(b), maxHeader+1)], '\n')
	if end < 0 {
		return Value{}, false
	}
	f := strings.Split(string(b[:end]), " ")
	if len(f) != 6 || f[0] != "V" {
		return Value{}, false
	}
	var num [5]int64
	for i := range num {
		n, ok := decimal(f[i+1])
		if !ok {
			return Value{}, false
		}
		num[i] = int64(n)
	}
	rest := b[end+1:]
	n := num[4]
	if n > int64(len(rest)) {
		return Value{}, false
	}
	return Value{
		Version: num[0], Root: f[2], Seq: num[2], Expiry: num[3],
		Tags: splitTags(string(rest[:n])), Data: rest[n:],
	}, true
}

// splitTags returns nil for no tags.
func splitTags(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
