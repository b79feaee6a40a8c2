package lane

import (
	"fmt"
	"strings"
)

// First is the Prev of a lane's first entry.
const First = "-"

// Frame is one message on a lane's channel.
//
//	<prevID> SP <ID> SP <payload>
type Frame struct {
	// Prev is the ID of the entry before, First for the first one. The receiver knows all of the lane's history iff Prev
	// is the last ID that it applied.
	Prev    string
	ID      string
	Payload Payload
}

// AppendFrame appends the frame of an entry. The scripts write frames themselves; this is for tests and other writers.
func AppendFrame(dst []byte, prev, id string, payload []byte) []byte {
	dst = append(dst, prev...)
	dst = append(dst, ' ')
	dst = append(dst, id...)
	dst = append(dst, ' ')
	return append(dst, payload...)
}

// ParseFrame reads a message. An error wraps ErrVersion or ErrMalformed and means: flush the lane. Prev and ID are set
// also then, as far as they could be read, so that a receiver can continue from there.
func ParseFrame(s string) (Frame, error) {
	if len(s) > MaxFrame {
		return Frame{}, fmt.Errorf("parse frame of %d bytes: %w", len(s), ErrMalformed)
	}
	prev, rest, ok1 := strings.Cut(s, " ")
	id, payload, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 {
		return Frame{}, fmt.Errorf("parse frame: two spaces wanted: %w", ErrMalformed)
	}
	_, _, ok1 = SplitID(prev)
	_, _, ok2 = SplitID(id)
	if !ok1 && prev != First || !ok2 {
		return Frame{}, fmt.Errorf("parse frame: bad entry ID: %w", ErrMalformed)
	}
	f := Frame{Prev: prev, ID: id}
	p, err := ParsePayload(payload)
	if err != nil {
		return f, fmt.Errorf("parse frame: %w", err)
	}
	f.Payload = p
	return f, nil
}
