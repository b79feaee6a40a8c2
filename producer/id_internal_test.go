package producer

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

// IDs of events are UUIDs of version 7 that have the time, sort by it, and do not repeat.
func TestNewID(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	seen, last := map[string]bool{}, ""
	for i := range 10_000 {
		now := at.Add(time.Duration(i/10) * time.Microsecond)
		text := newID(now)
		id, err := uuid.Parse(text)
		if err != nil || id.String() != text || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("ID %s: %v, version %d, variant %s", text, err, id.Version(), id.Variant())
		}
		if sec, nsec := id.Time().UnixTime(); time.Unix(sec, nsec).UnixMilli() != now.UnixMilli() {
			t.Fatalf("ID %s is of the time %v, want %v", text, time.Unix(sec, nsec), now)
		}
		if seen[text] || text[:18] < last {
			t.Fatalf("ID %s came before, or sorts before %s", text, last)
		}
		seen[text], last = true, text[:18]
	}
}
