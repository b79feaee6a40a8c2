package producer

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"
)

// newID returns a UUID of version 7: the time in milliseconds and a finer part of it, so that IDs sort by when they were made, and 62
// random bits. It must be unlike all others, which the generator of the runtime, seeded by the system, is good for; it is no secret.
func newID(now time.Time) string {
	var raw [16]byte
	fine := uint64(now.Nanosecond()%1_000_000) >> 8 // 12 bits
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16|7<<12|fine)
	binary.BigEndian.PutUint64(raw[8:], 1<<63|rand.Uint64()>>2)
	var text [36]byte
	at := 0
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		from := [...]int{0, 4, 6, 8, 10}[i]
		if i > 0 {
			text[at] = '-'
			at++
		}
		at += hex.Encode(text[at:], raw[from:end])
	}
	return string(text[:])
}
