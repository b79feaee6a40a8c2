package console

import (
	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func datasetsScreen() *screen {
	return &screen{path: "/datasets", name: "datasets", title: "Datasets", nav: true, least: access.Viewer, load: loadDatasets}
}

// datasetsPage lists what is declared.
type datasetsPage struct{ Datasets []api.DatasetState }

func loadDatasets(v *visit) (any, error) {
	sets, err := v.datasets()
	return datasetsPage{sets}, err
}
