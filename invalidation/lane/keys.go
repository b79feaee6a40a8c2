package lane

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// MaxKeyBytes is the greatest length of a cache key or tag.
const MaxKeyBytes = 512

// ErrNamespace comes, wrapped, when a namespace cannot be used.
var ErrNamespace = errors.New("namespace must be 1 to 32 of a-z, 0-9, dot, underscore and hyphen")

// CheckNamespace refuses a namespace that would make key names ambiguous; the error wraps ErrNamespace.
func CheckNamespace(ns string) error {
	if len(ns) == 0 || len(ns) > 32 {
		return fmt.Errorf("namespace of %d bytes: %w", len(ns), ErrNamespace)
	}
	for i := range len(ns) {
		switch c := ns[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("namespace %q: %w", ns, ErrNamespace)
		}
	}
	return nil
}

// Of returns the lane of a cache key in a namespace with that many lanes.
func Of(key string, lanes int) int {
	if lanes <= 1 {
		return 0
	}
	// By table and not by crc32.ChecksumIEEE: that one needs a copy of the key on the heap, and this runs for each read.
	crc := ^uint32(0)
	for i := range len(key) {
		crc = crc32.IEEETable[byte(crc)^key[i]] ^ crc>>8
	}
	return int(uint64(^crc) % uint64(lanes))
}

// Keys are the names of one lane in Redis. The braces of the common prefix put them all into one hash slot.
type Keys struct {
	// Stream is the log of entries, Meta the hash with root, seq, last and watermarks, Tags the stamps of tags.
	Stream, Meta, Tags string
	// Floors0 and Floors1 take turns: see the emit script.
	Floors0, Floors1 string
	// Nothing never exists: removing it proves that Redis takes writes.
	Nothing string
	// Channel is where frames are published.
	Channel string

	values string
}

// KeysOf returns the names of lane n of a namespace.
func KeysOf(ns string, n int) Keys {
	p := "{fr:" + ns + ":" + strconv.Itoa(n) + "}:"
	return Keys{
		Stream: p + "lane", Meta: p + "meta", Tags: p + "tags",
		Floors0: p + "f0", Floors1: p + "f1", Nothing: p + "nothing", Channel: p + "ch", values: p + "v:",
	}
}

// Value is the name of the shared entry of a cache key that belongs to this lane.
func (k Keys) Value(key string) string { return k.values + key }

// SplitID takes an entry ID "<seq>-<nonce>" apart. Two entries are the same only if their whole IDs are equal: a lane
// that lost its end counts on from an earlier seq.
func SplitID(id string) (seq, nonce uint64, ok bool) {
	a, b, found := strings.Cut(id, "-")
	if !found {
		return 0, 0, false
	}
	seq, ok1 := decimal(a)
	nonce, ok2 := decimal(b)
	return seq, nonce, ok1 && ok2
}

// decimal reads a number below 2^53 without sign or padding: the only form in which the protocol writes numbers.
func decimal(s string) (uint64, bool) {
	if s == "" || len(s) > 16 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, n < 1<<53
}
