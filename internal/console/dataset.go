package console

import (
	"encoding/json"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func datasetScreen() *screen {
	return &screen{path: "/dataset", name: "dataset", title: "Dataset", least: access.Viewer, load: loadDataset, act: actDataset}
}

// datasetPage is one dataset.
type datasetPage struct {
	api.DatasetDetail

	// Check is what was found about Pasted; nil until something was.
	Check  *api.SchemaCheck
	Pasted string
}

func loadDataset(v *visit) (any, error) {
	p := &datasetPage{}
	return p, v.get("/v1/datasets/"+seg(v.param("name")), &p.DatasetDetail)
}

// actDataset checks what was pasted, and shows it beside the dataset.
func actDataset(v *visit) (*outcome, error) {
	if v.field("do") != "check" {
		return nil, v.unknown()
	}
	path := "/v1/datasets/" + seg(v.field("name"))
	p := &datasetPage{Check: &api.SchemaCheck{}, Pasted: v.field("text")}
	if err := v.get(path, &p.DatasetDetail); err != nil {
		return nil, err
	}
	if err := v.post(path+"/check", proposal(p.Pasted), p.Check); err != nil {
		return nil, err
	}
	return &outcome{name: "dataset", data: p}, nil
}

// proposal is what was pasted as the API takes it: a JSON object is a schema, all else a declaration.
func proposal(text string) map[string]any {
	var schema map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &schema) == nil {
		return map[string]any{"schema": json.RawMessage(text)}
	}
	return map[string]any{"declaration": text}
}
