package draft_test

import (
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/draft"
	"github.com/freshet/freshet/schemas"
)

// stamped is a table with a TIMESTAMP on a server with that time zone.
func stamped(zone string) *draft.Table {
	column := func(name, text string) draft.Column {
		t, _ := schemas.ParseColumnType(text)
		return draft.Column{Name: name, Type: t, Text: text}
	}
	return &draft.Table{Database: "shop", Name: "stamped", Key: []string{"id"}, Zone: zone, Columns: []draft.Column{column("id", "int"), column("at", "timestamp")}}
}

// TestZoneOfTimestamps: tools that write the server's local time need its offset, which only a fixed zone has.
func TestZoneOfTimestamps(t *testing.T) {
	for _, c := range []struct {
		from   draft.From
		zone   string
		offset int  // minutes
		noted  bool // the reader has to say the zone
	}{
		{draft.Canal, "+08:00", 480, false},
		{draft.Maxwell, "-03:30", -210, false},
		{draft.Maxwell, "UTC", 0, false},
		{draft.Canal, "+00:00", 0, false},
		{draft.Canal, "CET", 0, true},
		{draft.Maxwell, "", 0, true},
		{draft.Debezium, "CET", 0, false},
	} {
		cfg := draft.Config{From: c.from, Topic: "t"}
		d := load(t, stamped(c.zone), cfg)
		drafted, err := draft.New(stamped(c.zone), cfg)
		if err != nil {
			t.Fatal(err)
		}
		noted := strings.Contains(strings.Join(drafted.Notes, "\n"), "write its offset from UTC as cdc.zone")
		if d.CDC.Zone != c.offset || noted != c.noted {
			t.Errorf("%s on a server in %q: zone %d, noted %v; want %d and %v", c.from, c.zone, d.CDC.Zone, noted, c.offset, c.noted)
		}
	}
}
