// Package chart draws the console's charts as SVG, on the server and without a style of their own: the page's style sheet has colours for
// their classes in both themes.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

const (
	width, height = 320.0, 110.0
	left, bottom  = 48.0, 18.0
	top           = 8.0
)

// Point is one value at one time; NaN where there is none, which leaves a gap.
type Point struct {
	At    time.Time
	Value float64
}

// Line draws values over time. The label says what is drawn, for those who do not see it; format writes a value.
func Line(label string, points []Point, format func(float64) string) template.HTML {
	low, high, last := math.Inf(1), math.Inf(-1), math.NaN()
	for _, p := range points {
		if !math.IsNaN(p.Value) {
			low, high, last = min(low, p.Value), max(high, p.Value), p.Value
		}
	}
	var b strings.Builder
	summary := label
	if math.IsInf(low, 1) {
		high = 1
	} else {
		summary = fmt.Sprintf("%s: %s; %s – %s", label, format(last), format(low), format(high))
	}
	ceiling := nice(high)
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(summary))
	for _, share := range []float64{0, 0.5, 1} {
		y := yOf(share*ceiling, ceiling)
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text class="tick" x="%g" y="%.1f" text-anchor="end">%s</text>`,
			left, width, y, y, left-6, y+4, template.HTMLEscapeString(format(share*ceiling)))
	}
	drawRuns(&b, points, ceiling)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // numbers, and texts that are escaped above
}

// drawRuns draws each run of points that have values.
func drawRuns(b *strings.Builder, points []Point, ceiling float64) {
	if len(points) < 2 {
		return
	}
	first, span := points[0].At, points[len(points)-1].At.Sub(points[0].At).Seconds()
	x := func(p Point) float64 { return left + p.At.Sub(first).Seconds()/max(span, 1)*(width-left) }
	for start := 0; start < len(points); {
		if math.IsNaN(points[start].Value) {
			start++
			continue
		}
		end := start
		var path strings.Builder
		for ; end < len(points) && !math.IsNaN(points[end].Value); end++ {
			verb := "L"
			if end == start {
				verb = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", verb, x(points[end]), yOf(points[end].Value, ceiling))
		}
		fmt.Fprintf(b, `<path class="area" d="%sL%.1f %.1fL%.1f %.1fZ"/><path class="line" d="%s"/>`,
			path.String(), x(points[end-1]), yOf(0, 1), x(points[start]), yOf(0, 1), path.String())
		start = end
	}
	fmt.Fprintf(b, `<text class="tick" x="%g" y="%g">%s</text><text class="tick" x="%g" y="%g" text-anchor="end">%s</text>`,
		left, height-3, first.UTC().Format("15:04:05"), width, height-3, points[len(points)-1].At.UTC().Format("15:04:05 UTC"))
}

func yOf(value, ceiling float64) float64 {
	return top + (1-value/ceiling)*(height-bottom-top)
}

// nice is the next greater number of the form 1, 2 or 5 times a power of ten.
func nice(v float64) float64 {
	if v <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*base {
			return m * base
		}
	}
	return 10 * base
}
