package recordbatch

import (
	"math"
	"testing"

	"github.com/freshet/freshet/schemas"
)

// TestDecodeBoundsRecordTimes: a producer may write any number as a record's time, for example nanoseconds.
func TestDecodeBoundsRecordTimes(t *testing.T) {
	for name, c := range map[string]struct{ written, want int64 }{
		"unknown":        {-1, 0},
		"least":          {math.MinInt64, 0},
		"nanoseconds":    {1764480000000000000, schemas.MaxTime},
		"end of 9999":    {schemas.MaxTime, schemas.MaxTime},
		"past the bound": {schemas.MaxTime + 1, schemas.MaxTime},
		"usual":          {1764480000000, 1764480000000},
	} {
		for _, attrs := range []int16{0, attrLogAppend} {
			g := with(plain(0, 1), func(g *goldenBatch) { g.time, g.maxTime, g.attributes = c.written, c.written, attrs })
			recs, _, err := decodeRun(g.bytes(t), 0, nil)
			if err != nil || len(recs) != 1 || recs[0].Time != c.want {
				t.Errorf("%s, attributes %d: %+v, %v; want time %d", name, attrs, recs, err, c.want)
			}
		}
	}
}
