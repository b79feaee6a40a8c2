package worker

import (
	"testing"
	"time"
)

func TestStormNeedsManyLettersAndALargeShare(t *testing.T) {
	const sec = time.Second
	type step struct {
		at              time.Duration
		events, letters int
		stormy          bool
	}
	for name, steps := range map[string][]step{
		"few":              {{0, 199, 199, false}, {9 * sec, 0, 0, false}},
		"many at once":     {{0, 200, 200, true}},
		"small share":      {{0, 4000, 200, false}, {sec, 0, 1, true}}, // exactly a twentieth is not a storm
		"spread":           {{0, 100, 100, false}, {10 * sec, 100, 100, false}, {19 * sec, 99, 99, false}, {19 * sec, 1, 1, true}},
		"after a pause":    {{0, 150, 150, false}, {100 * sec, 150, 150, false}, {109 * sec, 50, 50, true}},
		"diluted":          {{0, 10_000, 0, false}, {sec, 500, 500, false}, {9 * sec, 1, 1, false}, {10 * sec, 0, 0, true}},
		"over the minutes": {{0, 1000, 19, false}, {5 * sec, 1000, 19, false}, {30 * sec, 1000, 19, false}},
	} {
		s := &storm{}
		for i, st := range steps {
			if got, _ := s.add(st.at, st.events, st.letters); got != st.stormy {
				t.Errorf("%s, step %d: storm %v, want %v", name, i, got, st.stormy)
			}
		}
	}
}
