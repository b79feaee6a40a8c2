package browser

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// The themes that a person can prefer.
const (
	Dark  = "dark"
	Light = "light"
)

// Viewport sets the size of the window.
func (p *Page) Viewport(width, height int) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(width), Height: int64(height), DeviceScaleFactor: 1})
}

// Theme sets whether the person prefers Dark or Light; motion is reduced, so that no animation is half done in a screenshot.
func (p *Page) Theme(theme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// highest is the most pixels of a long page that a screenshot shows.
const highest = 4000

// Screenshot writes the whole page, as wide as the window, as a PNG file.
func (p *Page) Screenshot(path string) {
	p.t.Helper()
	size := call(p, page.GetLayoutMetrics, cdp.Empty{})
	height := min(max(size.CSSContentSize.Height, float64(size.CSSLayoutViewport.ClientHeight)), highest)
	shot := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: yes(),
		Clip: &page.Viewport{Width: float64(size.CSSLayoutViewport.ClientWidth), Height: height, Scale: 1},
	})
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		p.t.Fatalf("browser: make the folder of a screenshot: %v", err)
	}
	if err := os.WriteFile(path, shot.Data, 0o600); err != nil {
		p.t.Fatalf("browser: write a screenshot: %v", err)
	}
}

// FirstPaint is the time from the start of the navigation until something of the page was drawn.
func (p *Page) FirstPaint() time.Duration {
	p.t.Helper()
	var ms float64
	p.eventually("wait for the first paint", func(ctx context.Context) (err error) {
		ms, err = evaluate[float64](ctx, "(performance.getEntriesByName('first-contentful-paint')[0] || {startTime: 0}).startTime")
		if err == nil && ms == 0 {
			err = errors.New("nothing was drawn yet")
		}
		return err
	})
	return time.Duration(ms * float64(time.Millisecond))
}

// Heap is how many bytes the page's JavaScript holds once its garbage is gone.
func (p *Page) Heap() int64 {
	p.t.Helper()
	call(p, heapprofiler.CollectGarbage, cdp.Empty{})
	return int64(call(p, runtime.GetHeapUsage, cdp.Empty{}).UsedSize)
}

// Overflow is by how many pixels the page is wider than the window, so that a person must scroll sideways, and what
// reaches farthest. It is 0 for a page that fits.
func (p *Page) Overflow() (pixels int, widest string) {
	p.t.Helper()
	got := Evaluate[struct {
		Pixels int
		Widest string
	}](p, `(() => {
	const root = document.scrollingElement, wide = root.clientWidth;
	let Widest = '', right = wide;
	for (const e of document.body.querySelectorAll('*')) {
		const r = e.getBoundingClientRect();
		if (r.right + window.scrollX > right + 1 && e.checkVisibility()) {
			right = r.right + window.scrollX;
			Widest = e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + [...e.classList].map(c => '.' + c).join('');
		}
	}
	const Pixels = root.scrollWidth - wide;
	return {Pixels, Widest: Pixels > 0 ? Widest : ''};
})()`)
	return got.Pixels, got.Widest
}
