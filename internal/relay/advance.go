package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// margin is how many ids may have been published and then lost with a server, and how many may be taken while the counter is
// advanced.
const margin = 1 << 20

// advancing states how the counter is advanced.
type advancing struct {
	fence  int64  // of the relay that does it; 0 takes the lease from any relay
	above  int64  // versions continue above it
	server string // "" leaves the server that is noted
	dry    bool   // roll back
}

// errDry rolls a transaction back that was only to be tried.
var errDry = errors.New("dry run")

// Advance moves the outbox's counter so that every version from now on is above all that were published, and above the given
// one. It ends the term of the active relay, which begins another one at once. It returns the first id that is a version itself. Without apply
// everything is rolled back; only an id of the table is used up.
func Advance(ctx context.Context, pool *mysql.Pool, above int64, apply bool) (int64, error) {
	srv, err := readServer(ctx, pool.DB(), pool.Dialect())
	if err != nil {
		return 0, err
	}
	if err := srv.fit(); err != nil {
		return 0, err
	}
	if err := checkTables(ctx, pool.DB()); err != nil {
		return 0, err
	}
	n, err := advance(ctx, pool, advancing{above: above, server: srv.identity, dry: !apply})
	if errors.Is(err, errDry) {
		err = nil
	}
	return n.floor, err
}

// advance changes the numbering in one transaction.
//
//	ids in the table and in open transactions      unused                      ids from now on
//	low ………………………………………… taken                          floor ………………………………
//	version = id + shift, above all published                                  version = id
func advance(ctx context.Context, pool *mysql.Pool, a advancing) (numbering, error) {
	var n numbering
	err := pool.Transact(ctx, "advance the outbox's counter", func(ctx context.Context, c *mysql.Conn) error {
		var fence, high int64
		if err := c.QueryRow(ctx, "SELECT `fence`, `high` FROM freshet_relay WHERE `one` = 1 FOR UPDATE", nil, &fence, &high); err != nil {
			return err
		}
		if a.fence != 0 && a.fence != fence {
			return errFenced
		}
		// The counter as the server has it: statistics may be old.
		taken, err := c.Insert(ctx, "INSERT INTO freshet_outbox (dataset, record_key, op) VALUES ('', '', 'delete')")
		if err != nil {
			return err
		}
		if err := removeMarkers(ctx, c); err != nil {
			return err
		}
		low := taken
		if err := c.QueryRow(ctx, "SELECT COALESCE(MIN(id), ?) FROM freshet_outbox", []any{taken}, &low); err != nil {
			return err
		}
		shift := max(0, max(high, a.above)+margin-low)
		n = numbering{low: low, shift: shift, floor: shift + taken + margin}
		if n.floor > schemas.MaxVersion-margin {
			return fmt.Errorf("versions would continue at %d, and at most %d is possible; give a lower --above, or begin with new topics and replica tables", n.floor, schemas.MaxVersion)
		}
		if a.dry {
			return errDry
		}
		if _, err := c.Exec(ctx, "INSERT INTO freshet_outbox (id, dataset, record_key, op) VALUES (?, '', '', 'delete')", n.floor); err != nil {
			return err
		}
		_, err = c.Exec(ctx, "UPDATE freshet_relay SET `high` = ?, `low` = ?, `floor` = ?, `shift` = ?, `server` = IF(? = '', `server`, ?) WHERE `one` = 1",
			n.floor, n.low, n.floor, n.shift, a.server, a.server)
		if err != nil || a.fence != 0 {
			return err
		}
		_, err = c.Exec(ctx, "UPDATE freshet_relay SET `fence` = `fence` + 1, `owner` = '', `until` = 0 WHERE `one` = 1")
		return err
	})
	return n, err
}

// removeMarkers deletes rows that are not events. They are looked for without locks, which would wait for writers.
func removeMarkers(ctx context.Context, c *mysql.Conn) error {
	ids, err := mysql.Texts(ctx, c.Plain(), "look for markers", "SELECT id FROM freshet_outbox WHERE dataset = ''")
	if err != nil || len(ids) == 0 {
		return err
	}
	for _, id := range ids {
		if _, err := strconv.ParseInt(id, 10, 64); err != nil {
			return fmt.Errorf("read marker: %w", err)
		}
	}
	_, err = c.ExecOnce(ctx, "DELETE FROM freshet_outbox WHERE dataset = '' AND id IN ("+strings.Join(ids, ",")+")")
	return err
}
