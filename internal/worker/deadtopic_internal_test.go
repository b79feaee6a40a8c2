package worker

import (
	"context"
	"errors"
	"math"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

func headerMap(rec schemas.Record) map[string]string {
	m := map[string]string{}
	for _, h := range rec.Headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

func TestCopyOfALetterIsItsOwn(t *testing.T) {
	buf := []byte("keyvalueheader")
	l := &replica.Letter{
		Offset: 7, Index: 2, Dataset: "items", Reason: schemas.ReasonRefused, Errno: 1406, Detail: "too long",
		Record: &schemas.Record{Key: buf[:3], Value: buf[3:8], Time: 99, Headers: []schemas.Header{{Key: "ce_id", Value: buf[8:]}}},
	}
	rec := letterCopy("t/id/0", l)
	clear(buf)
	want := map[string]string{
		"ce_id": "header", headerDataset: "items", headerReason: "refused", headerErrno: "1406", headerDetail: "too long",
		headerSource: "t/id/0", headerOffset: "7", headerIndex: "2",
	}
	if diff := cmp.Diff(want, headerMap(rec)); diff != "" || string(rec.Key) != "key" || string(rec.Value) != "value" || rec.Time != 99 {
		t.Errorf("key %q, value %q, time %d, headers (-want +got):\n%s", rec.Key, rec.Value, rec.Time, diff)
	}
	// The dead topic does not take it for its size: identity and reason stay.
	small := stripped(rec)
	want[headerSize] = strconv.Itoa(rec.Size())
	if diff := cmp.Diff(want, headerMap(small)); diff != "" || small.Value != nil || string(small.Key) != "key" {
		t.Errorf("stripped: value %q, headers (-want +got):\n%s", small.Value, diff)
	}
	huge := letterCopy("t/id/0", &replica.Letter{Record: &schemas.Record{Oversize: 5_000_000}})
	if h := headerMap(huge); h[headerSize] != "5000000" || string(huge.Key) != "t/id/0" || huge.Value != nil {
		t.Errorf("copy of a record that was too large: key %q, headers %v", huge.Key, h)
	}
}

func TestUncopiedLettersHoldTheOffsetAndTheNextBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c copies
		if c.limit() != math.MaxInt64 {
			t.Errorf("limit %d without letters", c.limit())
		}
		for i := range maxUncopied {
			if err := c.room(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.add(letterCopies{from: int64(10 * (i + 1))})
		}
		if c.limit() != 10 {
			t.Errorf("limit %d, want that of the oldest", c.limit())
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := c.room(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("room for a batch too many: %v", err)
		}
		free := make(chan error, 1)
		go func() { free <- c.room(t.Context()) }()
		synctest.Wait()
		if len(free) > 0 {
			t.Error("there was room before a copy was done")
		}
		c.done()
		if err := <-free; err != nil || c.limit() != 20 {
			t.Errorf("after the first copy: %v, limit %d", err, c.limit())
		}
	})
}
