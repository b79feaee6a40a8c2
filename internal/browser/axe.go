package browser

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"

	"github.com/freshet/freshet/internal/testenv"
)

// The package of axe-core that pages are checked with, and the checksum that its registry lists for it.
const (
	axeVersion   = "4.14.1"
	axeIntegrity = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
	axeScript    = "package/axe.min.js"
)

// axeTags are WCAG 2.2 up to level AA, and what axe-core considers good practice beyond it.
const axeTags = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]`

// violation is one rule of axe-core that the page breaks.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		Target         []any
		HTML           string
		FailureSummary string
	}
}

// Axe fails the test for each violation of WCAG 2.2 AA and of good practice that axe-core finds in the page as it is now.
// The test is skipped where axe-core cannot be had: npm fetches it once into the user's cache directory.
func (p *Page) Axe() {
	p.t.Helper()
	script, err := axe(p.ctx)
	if errors.Is(err, testenv.ErrMissing) {
		testenv.Skip(p.t, err.Error())
	}
	if err != nil {
		p.t.Fatalf("browser: %v", err)
	}
	frame := call(p, page.GetFrameTree, cdp.Empty{}).FrameTree.Frame.ID
	// A world of its own: neither the page's policy nor its variables and axe-core meet.
	world := call(p, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: frame, WorldName: "axe"}).ExecutionContextID
	run := script + "\n;axe.run(document, {runOnly: {type: 'tag', values: " + axeTags + "}, resultTypes: ['violations'], preload: false}).then(r => JSON.stringify(r.violations))"
	ctx, cancel := context.WithTimeout(p.ctx, 6*patience) // a page of a thousand rows takes seconds
	defer cancel()
	res, err := tried(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: run, ContextID: world, ReturnByValue: yes(), AwaitPromise: yes()})
	if err != nil {
		p.t.Fatalf("browser: run axe-core: %v", err)
	}
	if res.ExceptionDetails != nil {
		p.t.Fatalf("browser: run axe-core: %s", thrown(res.ExceptionDetails))
	}
	var text string
	var found []violation
	if err := errors.Join(json.Unmarshal(res.Result.Value, &text), json.Unmarshal([]byte(text), &found)); err != nil {
		p.t.Fatalf("browser: read what axe-core found: %v", err)
	}
	for _, v := range found {
		p.t.Errorf("browser: axe-core: %s", v)
	}
}

// String tells what is wrong, and with which elements.
func (v violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s", v.ID, v.Impact, v.Help)
	for i, n := range v.Nodes {
		if i == 5 {
			fmt.Fprintf(&b, "\n  and %d more", len(v.Nodes)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %v %.200s\n    %s", n.Target, n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", "\n    "))
	}
	return b.String()
}

// axe returns the script of axe-core. Its error is ErrMissing where npm or the registry is not to be had.
func axe(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "freshet", "axe-core")
	archive := filepath.Join(dir, "axe-core-"+axeVersion+".tgz")
	b, err := os.ReadFile(archive)
	if err != nil || !intact(b) {
		if b, err = fetchAxe(ctx, dir, archive); err != nil {
			return "", err
		}
	}
	return unpackAxe(b)
}

func intact(b []byte) bool {
	sum := sha512.Sum512(b)
	return base64.StdEncoding.EncodeToString(sum[:]) == axeIntegrity
}

// fetchAxe asks npm for the package and keeps it. Several tests may do so at once.
func fetchAxe(ctx context.Context, dir, archive string) ([]byte, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return nil, fmt.Errorf("%w: no npm to fetch axe-core with", testenv.ErrMissing)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of axe-core: %w", err)
	}
	part, err := os.MkdirTemp(dir, "part")
	if err != nil {
		return nil, fmt.Errorf("make the cache of axe-core: %w", err)
	}
	defer os.RemoveAll(part) //nolint:errcheck // a cache
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "pack", "axe-core@"+axeVersion, "--silent", "--ignore-scripts", "--pack-destination", part) //nolint:gosec // a name of our own
	cmd.Dir = part
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: axe-core %s cannot be had from npm: %w: %s", testenv.ErrMissing, axeVersion, err, out)
	}
	fetched := filepath.Join(part, filepath.Base(archive))
	b, err := os.ReadFile(fetched)
	if err != nil {
		return nil, fmt.Errorf("read the package of axe-core: %w", err)
	}
	if !intact(b) {
		return nil, fmt.Errorf("npm delivered an axe-core %s whose checksum is not the one this package has; do not use it", axeVersion)
	}
	if err := os.Rename(fetched, archive); err != nil {
		return nil, fmt.Errorf("keep axe-core: %w", err)
	}
	return b, nil
}

// unpackAxe returns the script in an npm package.
func unpackAxe(b []byte) (string, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", fmt.Errorf("unpack axe-core: %w", err)
	}
	files := tar.NewReader(z)
	for {
		h, err := files.Next()
		if err != nil {
			return "", fmt.Errorf("look for %s in the package of axe-core: %w", axeScript, err)
		}
		if h.Name != axeScript {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(files, 8<<20))
		if err != nil {
			return "", fmt.Errorf("unpack axe-core: %w", err)
		}
		return string(text), nil
	}
}
