package lane

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Errors of Range.
var (
	// ErrGap: the stream does not have the entry to continue from, or lost it on the way: the reader's history is another
	// one than the lane's, or was trimmed. Flush the lane.
	ErrGap = errors.New("lane entry is gone")
	// ErrBehind: there are more entries than the reader wanted to catch up with. Flush the lane.
	ErrBehind = errors.New("too many lane entries to catch up with")
)

// primaryLoads is the value of meta's field loads in a namespace whose every load reads the primary; otherwise it has none.
const primaryLoads = "primary"

// State reads the meta hash of lane n, with the watermarks of sources and the hashes of datasets. Only a master that
// takes writes answers: a replica, or one that was replaced and does not know it yet, would confirm the past.
func (s *Scripts) State(ctx context.Context, n int, sources, datasets []string) (State, error) {
	fields := make([]any, 0, 5+len(sources)+len(datasets))
	fields = append(fields, "root", "last", "lanes", "grp", "loads")
	for _, x := range sources {
		fields = append(fields, "wm:"+x)
	}
	for _, x := range datasets {
		fields = append(fields, "d:"+x)
	}
	k := s.lanes[n]
	vals, err := s.state.Run(ctx, s.rdb, []string{k.Meta, k.Nothing}, fields...).Slice()
	if err != nil {
		return State{}, fmt.Errorf("read state of lane %d: %w", n, err)
	}
	if len(vals) != len(fields) {
		return State{}, fmt.Errorf("read state of lane %d: %w", n, ErrReply)
	}
	get := func(i int) string {
		v, _ := vals[i].(string)
		return v
	}
	if vals[0] == nil {
		return State{}, nil
	}
	st := State{PrimaryLoads: get(4) == primaryLoads, Exists: true, Root: get(0), Last: get(1), Group: get(3), Watermarks: map[string]int64{}, Hashes: map[string]string{}}
	if st.Lanes, err = strconv.Atoi(get(2)); err != nil {
		return State{}, fmt.Errorf("read number of lanes in lane %d: %w", n, ErrReply)
	}
	for i, x := range sources {
		if vals[5+i] == nil {
			continue
		}
		wm, err := strconv.ParseInt(get(5+i), 10, 64)
		if err != nil {
			return State{}, fmt.Errorf("read watermark in lane %d: %w", n, ErrReply)
		}
		st.Watermarks[x] = wm
	}
	for i, x := range datasets {
		if vals[5+len(sources)+i] != nil {
			st.Hashes[x] = get(5 + len(sources) + i)
		}
	}
	return st, nil
}

// Entry is one entry of a lane's stream.
type Entry struct {
	ID      string
	Payload Payload
	// Err is not nil when the payload could not be read (ErrVersion, ErrMalformed): flush the lane, continue after it.
	Err error
}

// pageLen bounds one XRANGE: a page of full payloads is about half a megabyte.
const pageLen = 128

// Range calls each for the entries of lane n that follow the entry from, in order, page by page. Nothing is missing
// between from and the last one that each saw: every page begins with the last entry of the one before. It stops when
// there are no more, or with ErrGap, or with ErrBehind after limit entries.
func (s *Scripts) Range(ctx context.Context, n int, from string, limit int, each func(Entry)) error {
	for read := 0; ; {
		page, err := s.rdb.XRangeN(ctx, s.lanes[n].Stream, from, "+", pageLen).Result()
		if err != nil {
			return fmt.Errorf("read lane %d: %w", n, err)
		}
		if len(page) == 0 || page[0].ID != from {
			return fmt.Errorf("read lane %d: %w", n, ErrGap)
		}
		for _, m := range page[1:] {
			if read == limit {
				return fmt.Errorf("read lane %d beyond %d entries: %w", n, limit, ErrBehind)
			}
			read++
			e := Entry{ID: m.ID}
			if text, ok := m.Values["m"].(string); ok {
				e.Payload, e.Err = ParsePayload(text)
			} else {
				e.Err = fmt.Errorf("read lane %d: entry without a payload: %w", n, ErrMalformed)
			}
			each(e)
			from = m.ID
		}
		if len(page) < pageLen {
			return nil
		}
	}
}
