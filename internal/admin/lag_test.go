package admin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
)

// A topic that was deleted is a line of the lag, not an error of the whole answer.
func TestLagNamesAMissingTopic(t *testing.T) {
	r := newRig(t, nil)
	topic := r.datasets.All()[0].Topic
	must(t, r.cfg.Kafka.DeleteTopics(t.Context(), []string{topic}))
	var got struct{ Items []api.Partition }
	must(t, json.Unmarshal(r.want(200, "viewer", "GET", "/v1/lag", nil).body, &got))
	if len(got.Items) != 1 || got.Items[0].Topic != topic || got.Items[0].Partition != -1 || !strings.Contains(got.Items[0].Error, "does not exist") {
		t.Errorf("got %+v, want one line that names %s", got.Items, topic)
	}
}
