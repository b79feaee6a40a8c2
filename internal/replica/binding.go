package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
)

// A database belongs to one namespace and one consumer group. Workers of another namespace would invalidate entries that
// no node of the first one reads, and leave those of the first one stale. Its identity tells the members of a consumer
// group whether they write the same database; a standby has its primary's.

const (
	sqlSpaces    = "SELECT DISTINCT ns FROM freshet_lane"
	sqlGroups    = "SELECT DISTINCT grp FROM freshet_position"
	sqlLabel     = "SELECT CONCAT(DATABASE(), ' on ', @@hostname, ':', @@port)"
	sqlMoveGroup = "UPDATE freshet_position SET grp = ?, fence = fence + 1, gen = -1, owner = ''"
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

// Bindings keeps what namespace and group the database belongs to. It is safe for concurrent use.
type Bindings struct{ pool *mysql.Pool }

// Bind makes the database belong to a namespace, unless it belongs to one already, and returns what it then belongs to.
// ErrForeignNamespace and ErrForeignGroup are returned, wrapped in a text that has both sides, when that is another one.
func (l *Bindings) Bind(ctx context.Context, namespace, group string) (b Binding, err error) {
	err = l.pool.Transact(ctx, "bind database", func(ctx context.Context, w *mysql.Conn) error {
		if _, err := w.Exec(ctx, meta.SQLAdd, []byte(meta.Database), []byte(rand.Text())); err != nil {
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
		if _, err := w.Exec(ctx, meta.SQLAdd, []byte(meta.Namespace), []byte(namespace)); err != nil {
			return mysql.Wrap("note namespace", "", err)
		}
		return alone(ctx, w, group)
	})
	if err != nil {
		return Binding{}, err
	}
	return l.Get(ctx)
}

// spaces returns the namespace that is noted; in a database of a release that did not note it, those that lanes have.
func spaces(ctx context.Context, w *mysql.Conn) ([]string, error) {
	noted, ok, err := meta.Read(ctx, w, "read namespace", meta.Namespace, meta.ForUpdate)
	if err != nil || ok {
		return []string{string(noted)}, err
	}
	return mysql.Texts(ctx, w, "read binding", sqlSpaces)
}

// Get returns what the database belongs to.
func (l *Bindings) Get(ctx context.Context) (b Binding, err error) {
	const what = "read binding"
	for name, to := range map[string]*string{meta.Database: &b.Database, meta.Namespace: &b.Namespace} {
		value, _, err := meta.Read(ctx, l.pool.DB(), what, name)
		if err != nil {
			return Binding{}, err
		}
		*to = string(value)
	}
	if b.Groups, err = mysql.Texts(ctx, l.pool.DB(), what, sqlGroups); err != nil {
		return Binding{}, err
	}
	_, err = mysql.One(ctx, l.pool.DB(), what, sqlLabel, nil, &b.Label)
	return b, err
}

// Move moves the database to another namespace and group, under a new identity, and fences every worker. Its own lanes
// begin again there; entries of the previous namespace are not invalidated any more.
func (l *Bindings) Move(ctx context.Context, namespace, group string) error {
	return l.pool.Transact(ctx, "move database", func(ctx context.Context, w *mysql.Conn) error {
		for name, value := range map[string]string{meta.Database: rand.Text(), meta.Namespace: namespace} {
			if _, err := w.Exec(ctx, meta.SQLSet, []byte(name), []byte(value)); err != nil {
				return mysql.Wrap("note binding", "", err)
			}
		}
		_, err := w.Exec(ctx, sqlMoveGroup, []byte(group))
		return mysql.Wrap("move positions to group", "", err)
	})
}
