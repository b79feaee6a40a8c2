package console

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func auditScreen() *screen {
	return &screen{path: "/audit", name: "audit", title: "Audit", nav: true, least: access.Operator, load: loadAudit}
}

// auditPage lists what was changed.
type auditPage struct {
	Entries []api.Entry
	Next    string
}

func loadAudit(v *visit) (any, error) {
	var found struct {
		Items []api.Entry
		Next  string
	}
	err := v.get("/v1/audit", &found, "before", v.param("before"), "limit", "100")
	return auditPage{found.Items, found.Next}, err
}

// Export lists the lines.
func (p auditPage) Export() (items any, header []string, rows [][]string) {
	for _, e := range p.Entries {
		detail, err := json.Marshal(e.Detail)
		if err != nil {
			detail = nil
		}
		rows = append(rows, []string{strconv.FormatInt(e.ID, 10), e.At.UTC().Format(time.RFC3339), e.Actor, e.Role, e.Action, e.Target, strconv.Itoa(e.Outcome), string(detail)})
	}
	return p.Entries, []string{"id", "at", "actor", "role", "action", "target", "outcome", "detail"}, rows
}
