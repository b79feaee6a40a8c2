package main

import (
	"fmt"
	"io"
	"time"

	"charm.land/bubbles/v2/progress"
)

const barEvery = 100 * time.Millisecond

// bar is a progress bar on a terminal: by bytes when the input's size is known, else a running count.
type bar struct {
	w     io.Writer
	size  int64
	read  int64
	drawn time.Time
	model progress.Model
}

func newBar(w io.Writer, size int64) *bar {
	return &bar{w: w, size: size, model: progress.New(progress.WithWidth(40), progress.WithDefaultBlend())}
}

func (b *bar) add(n int) { b.read += int64(n) }

func (b *bar) draw(s summary) {
	if time.Since(b.drawn) < barEvery {
		return
	}
	b.drawn = time.Now()
	b.clear()
	if b.size > 0 {
		fmt.Fprint(b.w, b.model.ViewAs(min(1, float64(b.read)/float64(b.size))), " ")
	}
	fmt.Fprintf(b.w, "%d published, %.0f events/s, %d refused", s.Published, s.PerSecond, s.Refused)
}

func (b *bar) clear() { fmt.Fprint(b.w, "\r\x1b[2K") }
