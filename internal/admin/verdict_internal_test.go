package admin

import (
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
)

func TestVerdictNamesTheWorst(t *testing.T) {
	event := func(offset, version int64) api.Message { return api.Message{Offset: offset, Version: version} }
	value := func(version int64, valid bool) *report.Shared {
		return &report.Shared{State: "value", Valid: valid, Version: version}
	}
	node := func(version int64, served bool) []report.NodeCopy {
		return []report.NodeCopy{{Node: "n1", Held: true, Found: true, Version: version, Served: served}}
	}
	for _, tc := range []struct {
		name, want string
		fresh      bool
		record     api.Record
	}{
		{"nothing", "No copy of this record exists", true, api.Record{}},
		{"all agree", "Every copy has version 2: the replica row, a shared entry, 1 of 1 nodes", true, api.Record{Row: &api.RowSide{Version: 2}, Shared: value(2, true), Nodes: node(2, true)}},
		{"old copies that no one serves", "Every copy has version 2: the replica row, no shared entry, 0 of 1 nodes", true, api.Record{Row: &api.RowSide{Version: 2}, Shared: value(1, false), Nodes: node(1, false)}},
		{"deleted", "deleted at version 3", true, api.Record{Row: &api.RowSide{Version: 3, Deleted: true}}},
		{"old shared entry", "The shared entry has version 1 while the replica has 2", false, api.Record{Row: &api.RowSide{Version: 2}, Shared: value(1, true)}},
		{"old node", "Node n1 serves version 1 while the replica has 2", false, api.Record{Row: &api.RowSide{Version: 2}, Nodes: node(1, true)}},
		{"no row, but a shared entry", "The shared entry has version 1 while the replica has no row", true, api.Record{Shared: value(1, true)}},
		{"no row, but a node", "Node n1 serves version 4 while the replica has no row", true, api.Record{Shared: value(1, true), Nodes: node(4, true)}},
		{"newer copy", "The shared entry has version 3 while the replica has 2", true, api.Record{Row: &api.RowSide{Version: 2}, Shared: value(3, true), Nodes: node(2, true)}},
		{"not applied yet", "not applied yet: the group is at offset 7", false, api.Record{Row: &api.RowSide{Version: 2}, Kafka: api.KafkaSide{Committed: 7, Events: []api.Message{event(7, 3)}}}},
		{"row went back", "replay this key", false, api.Record{Row: &api.RowSide{Version: 2}, Kafka: api.KafkaSide{Committed: 8, Events: []api.Message{event(7, 3), event(5, 2)}}}},
		{"row without a version", "without a version: it is live", true, api.Record{Row: &api.RowSide{}}},
		{"letter", "Version 3 is a dead letter (schema)", false, api.Record{Row: &api.RowSide{Version: 2}, Letters: []api.Letter{{Version: 3, Reason: "schema"}}}},
		{"closed by a newer row", "Every copy has version 4", true, api.Record{Row: &api.RowSide{Version: 4}, Letters: []api.Letter{{Version: 3, Reason: "schema"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, fresh := verdict(&tc.record)
			if !strings.Contains(got, tc.want) || fresh != tc.fresh {
				t.Errorf("got %q, %t; want %q, %t", got, fresh, tc.want, tc.fresh)
			}
			if strings.Count(got, ". ") > 0 || !strings.HasSuffix(got, ".") {
				t.Errorf("%q is not one sentence", got)
			}
		})
	}
}
