package replica

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
)

// A database belongs to one namespace and one consumer group. Workers of another namespace would invalidate entries that
// no node of the first one reads, and leave those of the first one stale. Its identity tells the members of a consumer
// group whether they write the same database; a standby has its primary's.

const (
	metaDatabase  = "database"
	metaNamespace = "namespace"

	sqlNewIdentity = "INSERT INTO freshet_meta (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name"
	sqlMetaHold    = "SELECT value FROM freshet_meta WHERE name = ? FOR UPDATE"
	sqlMetaValue   = "SELECT value FROM freshet_meta WHERE name = ?"
	sqlSpaces      = "SELECT DISTINCT ns FROM freshet_lane"
	sqlGroups      = "SELECT DISTINCT grp FROM freshet_position"
	sqlLabel       = "SELECT CONCAT(DATABASE(), ' on ', @@hostname, ':', @@port)"
	sqlMoveGroup   = "UPDATE freshet_position SET grp = ?, fence = fence + 1, gen = -1, owner = ''"
)

// ErrForeignNamespace is returned when the database belongs to another namespace.
var ErrForeignNamespace = errors.New("the database belongs to another namespace")

// Binding is what a database belongs to.
type Binding struct {
	// Database is the identity, which a physical copy shares. Namespace is that of its caches, "" before the first worker.
	Database, Namespace string
	// Groups are the consumer groups that have positions; more than one only in a database of an old release.
	Groups []string
	// Label describes the database to an operator.
	Label string
}

// Bind makes the database belong to a namespace, unless it belongs to one already, and returns what it then belongs to.
// ErrForeignNamespace and ErrForeignGroup are returned, wrapped in a text that has both sides, when that is another one.
func (m *MySQL) Bind(ctx context.Context, namespace, group string) (b Binding, err error) {
	err = m.pool.Transact(ctx, "bind database", func(ctx context.Context, w *mysql.Conn) error {
		if _, err := w.Exec(ctx, sqlNewIdentity, []byte(metaDatabase), []byte(rand.Text())); err != nil {
			return mysql.Wrap("note identity", "", err)
		}
		known, err := spaces(ctx, w)
		if err != nil {
			return err
		}
		if len(known) > 0 && !slices.Contains(known, namespace) {
			return fmt.Errorf("%w: it is bound to namespace %q, this process has namespace %q; set namespace: %s, use another database, or move it with freshet migrate namespace",
				ErrForeignNamespace, strings.Join(known, ", "), namespace, known[0])
		}
		if _, err := w.Exec(ctx, sqlNewIdentity, []byte(metaNamespace), []byte(namespace)); err != nil {
			return mysql.Wrap("note namespace", "", err)
		}
		return alone(ctx, w, group)
	})
	if err != nil {
		return Binding{}, err
	}
	return m.Binding(ctx)
}

// spaces returns the namespace that is noted; in a database of a release that did not note it, those that lanes have.
func spaces(ctx context.Context, w *mysql.Conn) ([]string, error) {
	var noted []byte
	err := w.QueryRow(ctx, sqlMetaHold, []any{[]byte(metaNamespace)}, &noted)
	if err == nil {
		return []string{string(noted)}, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, mysql.Wrap("read namespace", "", err)
	}
	return texts(ctx, w.Plain(), sqlSpaces)
}

func texts(ctx context.Context, q mysql.Querier, query string, args ...any) (out []string, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, mysql.Wrap("read binding", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err reports what is wrong
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return nil, mysql.Wrap("read binding", "", err)
		}
		out = append(out, string(text))
	}
	return out, mysql.Wrap("read binding", "", rows.Err())
}

// Binding reads what the database belongs to.
func (m *MySQL) Binding(ctx context.Context) (Binding, error) {
	var b Binding
	for name, to := range map[string]*string{metaDatabase: &b.Database, metaNamespace: &b.Namespace} {
		var value []byte
		err := m.db.QueryRowContext(ctx, sqlMetaValue, []byte(name)).Scan(&value)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return Binding{}, mysql.Wrap("read binding", "", err)
		}
		*to = string(value)
	}
	var err error
	if b.Groups, err = texts(ctx, m.db, sqlGroups); err != nil {
		return Binding{}, err
	}
	err = m.db.QueryRowContext(ctx, sqlLabel).Scan(&b.Label)
	return b, mysql.Wrap("read binding", "", err)
}

// Rebind moves the database to another namespace and group, under a new identity, and fences every worker. Its own lanes
// begin anew there; entries of the former namespace are not invalidated any more.
func (m *MySQL) Rebind(ctx context.Context, namespace, group string) error {
	return m.pool.Transact(ctx, "move database", func(ctx context.Context, w *mysql.Conn) error {
		for name, value := range map[string]string{metaDatabase: rand.Text(), metaNamespace: namespace} {
			if _, err := w.Exec(ctx, sqlSetMeta, []byte(name), []byte(value), []byte(value)); err != nil {
				return mysql.Wrap("note binding", "", err)
			}
		}
		_, err := w.Exec(ctx, sqlMoveGroup, []byte(group))
		return mysql.Wrap("move positions to group", "", err)
	})
}
