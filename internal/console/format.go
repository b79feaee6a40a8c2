package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/console/chart"
	"github.com/freshet/freshet/internal/console/text"
)

// functions are what templates of one language call.
func (c *Console) functions(tag string) template.FuncMap {
	t := func(key string, args ...any) string { return c.texts.Text(tag, key, args...) }
	return template.FuncMap{
		"t": t,
		// tn chooses between the texts for one and for several, which has the number as %d or %s.
		"tn": func(n any, one, several string) (string, error) {
			count, err := whole(n)
			if count == 1 {
				return t(one), err
			}
			return t(several, grouped(count)), err
		},
		"url":   func(path string, pairs ...any) string { return c.cfg.BasePath + link(path, strs(pairs)...) },
		"asset": func(name string) string { return c.cfg.BasePath + "/assets/" + c.assets.version + "/" + name },
		// trace is where a trace is shown; "" for nowhere.
		"trace":   func(id string) string { return strings.ReplaceAll(c.cfg.TraceURL, traceID, seg(id)) },
		"tree":    tree,
		"seg":     seg,
		"num":     func(n any) (string, error) { count, err := whole(n); return grouped(count), err },
		"rate":    rate,
		"secs":    seconds,
		"percent": percent,
		// Those with p take what may not be known.
		"psecs": func(f *float64) string {
			if f == nil {
				return "–"
			}
			return seconds(*f)
		},
		"prate": func(f *float64) string {
			if f == nil {
				return "–"
			}
			return rate(*f)
		},
		"pnum":      maybe,
		"nines":     nines,
		"bytes":     size,
		"json":      indented,
		"line":      chart.Line,
		"dict":      dict,
		"list":      func(items ...any) []any { return items },
		"languages": text.Languages,
		"lower":     strings.ToLower,
		"join":      strings.Join,
	}
}

func strs(values []any) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}

// dict makes the data of a part from names and values in turn.
func dict(pairs ...any) (map[string]any, error) {
	d := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is not a name", pairs[i])
		}
		d[name] = pairs[i+1]
	}
	return d, nil
}

func whole(n any) (int64, error) {
	switch n := n.(type) {
	case *int64:
		return *n, nil
	case int:
		return int64(n), nil
	case int32:
		return int64(n), nil
	case int64:
		return n, nil
	case uint16:
		return int64(n), nil
	case uint64:
		return int64(min(n, math.MaxInt64)), nil
	case float64:
		return int64(n), nil
	}
	return 0, fmt.Errorf("%T is not a number", n)
}

// grouped writes a number with thin spaces between thousands.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, parts...), "\u202f")
}

// maybe writes a number that may not be known.
func maybe(n any) (string, error) {
	switch n := n.(type) {
	case *int:
		if n != nil {
			return grouped(int64(*n)), nil
		}
	case *int64:
		if n != nil {
			return grouped(*n), nil
		}
	default:
		return "", fmt.Errorf("%T is not a number that may be absent", n)
	}
	return "–", nil
}

func percent(f float64) string { return strconv.FormatFloat(math.Floor(f*1000)/10, 'f', 1, 64) + " %" }

// rate writes how many a second.
func rate(f float64) string {
	switch {
	case math.IsNaN(f) || f < 0:
		return "–"
	case f < 10 && f != math.Trunc(f):
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return grouped(int64(math.Round(f)))
}

// seconds writes a duration with two digits of sense.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || s < 0:
		return "–"
	case s == 0:
		return "0 s"
	case s < 0.0995:
		return strconv.FormatFloat(s*1000, 'f', 0, 64) + " ms"
	case s < 9.95:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	case s < 120:
		return strconv.FormatFloat(s, 'f', 0, 64) + " s"
	case s < 7200:
		return strconv.FormatFloat(s/60, 'f', 0, 64) + " min"
	case s < 48*3600:
		return strconv.FormatFloat(s/3600, 'f', 0, 64) + " h"
	}
	return strconv.FormatFloat(s/86400, 'f', 0, 64) + " d"
}

// nines writes a share without rounding it up: 0.99999 is never 100 %.
func nines(share float64) string {
	if share >= 1 {
		return "100 %"
	}
	return strconv.FormatFloat(math.Floor(share*1e6)/1e4, 'f', 4, 64) + " %"
}

func size(n int64) string {
	switch {
	case n < 1<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
}

// indented is JSON as a person reads it; what is not JSON stays as it came.
func indented(v any) string {
	raw, ok := v.(json.RawMessage)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		raw = b
	}
	var out bytes.Buffer
	if json.Indent(&out, raw, "", "  ") != nil {
		return string(raw)
	}
	return out.String()
}

// Time shows a moment as the person wants it: its age or its date, and the other one on demand.
func (p *page) Time(at time.Time) template.HTML {
	if at.IsZero() || at.Unix() <= 0 {
		return "–"
	}
	in := at.In(p.Prefs.Zone)
	date := in.Format("2006-01-02 15:04:05 MST")
	age := p.text("%s ago", seconds(time.Since(at).Seconds()))
	if time.Since(at) < 0 {
		age = p.text("in %s", seconds(time.Until(at).Seconds()))
	}
	shown, other := age, date
	if p.Prefs.Absolute {
		shown, other = date, age
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, //nolint:gosec // every part is escaped here
		at.UTC().Format(time.RFC3339), template.HTMLEscapeString(other), template.HTMLEscapeString(shown)))
}
