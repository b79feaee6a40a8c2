package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/freshet/freshet/internal/testenv"
)

// What a running process shows is what docs/metrics.md lists for it: names, types, labels and meaning, nothing less and nothing more.
func TestMetricsAreThoseOfThePage(t *testing.T) {
	w, _, _ := startWorld(t)
	_, api := w.startServe("w1")
	readies(t, api+"/readyz", isReady)
	w.flows(1)
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	want := pageLines(string(text), "Every process", "Workers", "Admin API", "Producers")
	if len(want) < 80 {
		t.Fatalf("the page lists %d metrics", len(want))
	}
	delete(want, "freshet_file_unusable") // this process has no such file
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		got, err := scrape(t.Context(), api+"/metrics")
		if err != nil {
			return err
		}
		var problems []error
		for name, line := range want {
			if got[name] != line {
				problems = append(problems, fmt.Errorf("%s: the page has %q, the process %q", name, line, got[name]))
			}
		}
		for name := range got {
			if want[name] == "" {
				problems = append(problems, fmt.Errorf("%s is not on the page", name))
			}
		}
		return errors.Join(problems...)
	})
}

// pageLines returns type, labels and meaning of the metrics of sections, by name.
func pageLines(page string, sections ...string) map[string]string {
	out := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| (.*?) \\| (.*) \\|$")
	label := regexp.MustCompile("`(\\w+)`")
	for _, part := range strings.Split(page, "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		if !slices.Contains(sections, title) {
			continue
		}
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			var names []string
			for _, l := range label.FindAllStringSubmatch(m[3], -1) {
				names = append(names, l[1])
			}
			out[m[1]] = fmt.Sprint(m[2], names, m[4])
		}
	}
	return out
}

// scrape returns the same of what a process shows of Freshet.
func scrape(ctx context.Context, url string) (map[string]string, error) {
	status, body, err := fetch(ctx, url)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("scrape: %d, %w", status, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("parse metrics: %w", err)
	}
	out := map[string]string{}
	for name, f := range families {
		if strings.HasPrefix(name, "freshet_") {
			out[name] = fmt.Sprint(strings.ToLower(f.GetType().String()), labelNames(f), f.GetHelp())
		}
	}
	return out, nil
}

func labelNames(f *dto.MetricFamily) []string {
	var names []string
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(names, l.GetName()) {
				names = append(names, l.GetName())
			}
		}
	}
	slices.Sort(names)
	return names
}
