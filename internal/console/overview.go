package console

import (
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func overviewScreen() *screen {
	return &screen{path: "/", name: "overview", title: "Overview", nav: true, least: access.Viewer, every: 2 * time.Second, load: loadOverview}
}

type overviewPage struct {
	Partitions []api.Partition
}

func loadOverview(v *visit) (any, error) {
	var lag struct{ Items []api.Partition }
	if err := v.get("/v1/lag", &lag); err != nil {
		return nil, err
	}
	return overviewPage{Partitions: lag.Items}, nil
}
