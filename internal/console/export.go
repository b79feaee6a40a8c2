package console

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strings"
)

// exporter is what a screen shows that can be taken away as a file.
type exporter interface {
	// Export returns the items as the API has them, and the same as a table.
	Export() (items any, header []string, rows [][]string)
}

// export sends a screen's items as CSV or JSON.
func (c *Console) export(w http.ResponseWriter, v *visit, s *screen, e exporter) {
	items, header, rows := e.Export()
	h := w.Header()
	format := v.param("format")
	h.Set("Content-Disposition", `attachment; filename="freshet-`+s.name+"."+format+`"`)
	var err error
	switch format {
	case "csv":
		h.Set("Content-Type", "text/csv; charset=utf-8")
		out := csv.NewWriter(w)
		err = out.Write(header)
		for _, row := range rows {
			for i := range row {
				row[i] = harmless(row[i])
			}
			if err == nil {
				err = out.Write(row)
			}
		}
		out.Flush()
	case "json":
		h.Set("Content-Type", "application/json")
		err = json.NewEncoder(w).Encode(items)
	default:
		h.Del("Content-Disposition")
		http.Error(w, v.text("The format is csv or json."), http.StatusBadRequest)
	}
	if err != nil {
		c.cfg.Logger.Debug("export was not sent", "page", s.name, "error", err)
	}
}

// harmless keeps a spreadsheet from taking a cell for a formula.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
