// Command dashboard writes deploy/grafana/dashboard.json. What the dashboard shows is in rows.go; this file knows Grafana's form.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

//go:generate go run . ../../deploy/grafana/dashboard.json

// object is a JSON object of Grafana.
type object = map[string]any

// The dashboard is 24 columns wide; three panels are side by side.
const (
	width  = 8
	height = 7
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboard FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(dashboard()); err != nil {
		return fmt.Errorf("encode dashboard: %w", err)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil { //nolint:gosec // a file of the repository
		return fmt.Errorf("write dashboard: %w", err)
	}
	return nil
}

func dashboard() object {
	return object{
		"title": "Freshet", "uid": "freshet", "tags": []string{"freshet"}, "schemaVersion": 39, "editable": true, "graphTooltip": 1,
		"refresh": "30s", "time": object{"from": "now-3h", "to": "now"},
		"templating": object{"list": variables()}, "panels": panels(rows()),
		"links": []object{{"title": "Runbooks", "type": "link", "url": "https://github.com/freshet/freshet/blob/main/docs/runbooks.md", "targetBlank": true}},
	}
}

func variables() []object {
	return []object{
		{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
		variable("namespace", "Namespace", "label_values(freshet_build_info, namespace)", false),
		variable("instance", "Instance", `label_values(up{job=~"freshet.*",namespace=~"$namespace"}, instance)`, true),
		variable("dataset", "Dataset", `label_values(freshet_dataset_paused{namespace=~"$namespace"}, dataset)`, true),
	}
}

func variable(name, label, query string, many bool) object {
	v := object{
		"name": name, "label": label, "type": "query", "datasource": source(), "refresh": 2, "sort": 1, "multi": many, "includeAll": many,
		"query": object{"query": query, "refId": name}, "definition": query,
	}
	if many {
		v["allValue"], v["current"] = ".*", object{"text": "All", "value": "$__all"}
	}
	return v
}

func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

// panels places rows below each other.
func panels(rows []row) []object {
	var out []object
	y := 0
	for _, r := range rows {
		out = append(out, object{"id": len(out) + 1, "type": "row", "title": r.title, "collapsed": false, "panels": []object{}, "gridPos": object{"x": 0, "y": y, "w": 3 * width, "h": 1}})
		y++
		for i, p := range r.panels {
			out = append(out, graph(len(out)+1, p, i%3*width, y+i/3*height))
		}
		y += (len(r.panels) + 2) / 3 * height
	}
	return out
}

func graph(id int, p panel, x, y int) object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{"refId": string(rune('A' + i)), "expr": q.expr, "legendFormat": q.legend, "datasource": source(), "range": true})
	}
	return object{
		"id": id, "type": "timeseries", "title": p.title, "datasource": source(), "targets": targets,
		"gridPos":     object{"x": x, "y": y, "w": width, "h": height},
		"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0, "custom": object{"fillOpacity": 8, "showPoints": "never"}}, "overrides": []object{}},
		"options":     object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi", "sort": "desc"}},
	}
}
