package relay

import (
	"context"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	// slowScan is when reading the outbox from its beginning costs the server too much to be done each time: many rows are there
	// that are not published, of unknown datasets or with obstacles.
	slowScan = 50 * time.Millisecond
	// scanShare bounds the share of time that such scans take.
	scanShare = 20
	// minScan is the shortest wait between them.
	minScan = time.Second
)

// scan decides where reading begins: at the beginning, where rows appear that are committed late, or, for a while after a slow
// look at those, behind the rows that were there.
type scan struct {
	slow  bool
	floor int64 // 0: from the beginning
	next  int64 // floor after the scan under way
	again time.Time
}

// from returns the id after which reading begins now.
func (s *scan) from(ctx context.Context, q mysql.Querier) (after int64, err error) {
	if s.floor > 0 && time.Now().Before(s.again) {
		return s.floor, nil
	}
	s.next = 0
	if s.slow {
		_, err = mysql.One(ctx, q, "look for the last row of the outbox", "SELECT COALESCE(MAX(id), 0) FROM freshet_outbox", nil, &s.next)
	}
	return 0, err
}

// scanned notes how long a look from an id to the end of the outbox took.
func (s *scan) scanned(after int64, took time.Duration) {
	if after > 0 {
		return
	}
	s.slow = took >= slowScan
	s.floor = 0
	if s.slow {
		s.floor = s.next
		s.again = time.Now().Add(max(minScan, scanShare*took))
	}
}
