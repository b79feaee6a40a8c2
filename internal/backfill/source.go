package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// source is the table that is loaded.
type source struct {
	label string // as the operator wrote it, for messages
	name  string // quoted
	total int64
	// rowBytes is the server's estimate of a row's size; 0 if it has none.
	rowBytes int64
	// columns and types are those of the dataset's columns, in their order.
	columns []string
	types   []schemas.ColumnType
	// order has the positions of the key columns among columns, in the order of the index that the table is read by.
	order []int
}

const (
	sqlTable   = "SELECT engine, COALESCE(table_rows, 0), COALESCE(avg_row_length, 0) FROM information_schema.tables WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?"
	sqlColumns = "SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?"
	// A unique index over nullable columns may have several rows for one key.
	sqlUnique = "SELECT s.index_name, s.column_name, s.sub_part IS NULL AND c.is_nullable = 'NO' FROM information_schema.statistics s" +
		" JOIN information_schema.columns c ON c.table_schema = s.table_schema AND c.table_name = s.table_name AND c.column_name = s.column_name" +
		" WHERE s.table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND s.table_name = ? AND s.non_unique = 0" +
		" ORDER BY s.index_name <> 'PRIMARY', s.index_name, s.seq_in_index"
)

// findSource maps the dataset's columns to those of the source table.
func findSource(ctx context.Context, cfg Config) (*source, error) {
	label := cfg.Table
	if label == "" {
		label = cfg.Dataset.Replica.Table
	}
	database, table, found := strings.Cut(label, ".")
	if !found {
		database, table = "", label
	}
	s := &source{label: label, name: mysql.Quote(table)}
	if database != "" {
		s.name = mysql.Quote(database) + "." + s.name
	}
	db, where := cfg.Source.DB(), []any{database, table}
	var engine *string
	exists, err := mysql.One(ctx, db, "inspect table", sqlTable, where, &engine, &s.total, &s.rowBytes)
	if err != nil {
		return nil, fmt.Errorf("backfill: %w", err)
	}
	if !exists {
		return nil, fmt.Errorf("backfill: the source database has no table %s, or the user may not read it; --table states the table", label)
	}
	if engine == nil || !strings.EqualFold(*engine, "InnoDB") {
		return nil, fmt.Errorf("backfill: %s is not an InnoDB table, so its rows cannot be locked; a view or another engine cannot be loaded", label)
	}
	if err := s.mapColumns(ctx, cfg, where); err != nil {
		return nil, err
	}
	return s, s.findOrder(ctx, cfg, where)
}

// checkOutbox refuses a source database without the tables that a run writes.
func checkOutbox(ctx context.Context, pool *mysql.Pool) error {
	for _, table := range []string{"freshet_outbox", "freshet_backfill"} {
		var one int
		found, err := mysql.One(ctx, pool.DB(), "look for the outbox", "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?", []any{table}, &one)
		if err != nil {
			return fmt.Errorf("backfill: %w", err)
		}
		if !found {
			return fmt.Errorf("backfill: the source database has no table %s, or the user may not use it; run the statements of freshet outbox ddl there, its grants too, or correct relay.dsn", table)
		}
	}
	return nil
}

// mapColumns finds the source column of each property and lists all that are missing at once.
func (s *source) mapColumns(ctx context.Context, cfg Config, where []any) error {
	have := map[string][2]string{} // name and type
	err := mysql.Each(ctx, cfg.Source.DB(), "inspect columns", sqlColumns, where, func(scan func(...any) error) error {
		var c [2]string
		if err := scan(&c[0], &c[1]); err != nil {
			return err
		}
		have[strings.ToLower(c[0])] = c
		return nil
	})
	if err != nil {
		return fmt.Errorf("backfill: %w", err)
	}
	wanted := map[string]bool{}
	var problems []error
	for _, c := range cfg.Dataset.Replica.Columns {
		property := c.Property.Name
		wanted[property] = true
		name, stated := cfg.Columns[property]
		if !stated {
			name = property
		}
		got, ok := have[strings.ToLower(name)]
		if !ok && !stated {
			got, ok = have[strings.ToLower(c.Name)]
		}
		switch {
		case !ok && stated:
			problems = append(problems, fmt.Errorf("backfill: table %s has no column %s, which --column states for the property %s; correct it", s.label, name, property))
		case !ok:
			problems = append(problems, fmt.Errorf("backfill: table %s has no column for the property %s; --column %s=COLUMN states it", s.label, property, property))
		}
		typ, known := schemas.ParseColumnType(got[1])
		if ok && !known {
			problems = append(problems, fmt.Errorf("backfill: column %s of table %s has the type %s, which Freshet does not know", got[0], s.label, got[1]))
		}
		if len(s.columns) < cfg.Dataset.Replica.KeyColumns && ok && known && !isOrdered(c.Property.Kind, typ) {
			problems = append(problems, fmt.Errorf("backfill: key column %s of table %s has the type %s, whose values the server does not order and find by what the property %s has; change the column, or enqueue its rows by a statement of your own",
				got[0], s.label, got[1], property))
		}
		s.columns, s.types = append(s.columns, got[0]), append(s.types, typ)
	}
	for property := range cfg.Columns {
		if !wanted[property] {
			problems = append(problems, fmt.Errorf("backfill: dataset %s has no property %s; correct --column", cfg.Dataset.Name, property))
		}
	}
	return errors.Join(problems...)
}

// isOrdered reports whether the server orders a key column of type t, and finds a row in it, by the values that a property of kind k
// has. ENUM and SET are ordered by numbers and compared as texts, no decimal text equals most values of a FLOAT, and a BIT or
// bytes are no text: rows would be left out, or taken for missing and deleted.
func isOrdered(k schemas.Kind, t schemas.ColumnType) bool {
	switch t.Base {
	case "enum", "set", "float", "double", "json":
		return false
	case "bit":
		return k != schemas.KindString
	}
	return !t.IsBinary()
}

// findOrder finds a unique index over the key columns, to read the table by.
func (s *source) findOrder(ctx context.Context, cfg Config, where []any) error {
	var names []string
	usable := map[string]bool{}
	parts := map[string][]string{}
	err := mysql.Each(ctx, cfg.Source.DB(), "inspect indexes", sqlUnique, where, func(scan func(...any) error) error {
		var index, col string
		var whole bool
		if err := scan(&index, &col, &whole); err != nil {
			return err
		}
		if _, ok := parts[index]; !ok {
			names = append(names, index)
			usable[index] = true
		}
		usable[index] = usable[index] && whole
		parts[index] = append(parts[index], col)
		return nil
	})
	if err != nil {
		return fmt.Errorf("backfill: %w", err)
	}
	keys := s.columns[:cfg.Dataset.Replica.KeyColumns]
	for _, index := range names {
		if !usable[index] || len(parts[index]) != len(keys) {
			continue
		}
		order := make([]int, 0, len(keys))
		for _, part := range parts[index] {
			if at := slices.IndexFunc(keys, func(c string) bool { return strings.EqualFold(c, part) }); at >= 0 {
				order = append(order, at)
			}
		}
		if len(order) == len(keys) {
			s.order = order
			return nil
		}
	}
	return fmt.Errorf("backfill: table %s has no primary key or unique index over exactly the key of dataset %s (%s), none of it nullable; add one, or correct the dataset's key",
		s.label, cfg.Dataset.Name, strings.Join(cfg.Dataset.Key, ", "))
}

// ordered returns the key columns in the order of the index, quoted.
func (s *source) ordered() []string {
	cols := make([]string, len(s.order))
	for i, at := range s.order {
		cols[i] = mysql.Quote(s.columns[at])
	}
	return cols
}

// cursor returns the values of a row's key columns in the order of the index.
func (s *source) cursor(values []any) []any {
	at := make([]any, len(s.order))
	for i, n := range s.order {
		at[i] = values[n]
	}
	return at
}

// chunkSQL reads the next rows and locks them against changes until the transaction ends.
func (s *source) chunkSQL(after []any) (string, []any) {
	cols := make([]string, len(s.columns))
	for i, c := range s.columns {
		cols[i] = mysql.Quote(c)
	}
	text, args := "SELECT "+strings.Join(cols, ", ")+" FROM "+s.name, []any(nil)
	order := s.ordered()
	if after != nil {
		var where string
		where, args = mysql.Behind(order, after)
		text += " WHERE " + where
	}
	return text + " ORDER BY " + strings.Join(order, ", ") + " LIMIT ? LOCK IN SHARE MODE", args
}

// keysSQL reads the keys of n records, in the dataset's order.
func (s *source) keysSQL(n int) string {
	cols := make([]string, len(s.order))
	for i := range cols {
		cols[i] = mysql.Quote(s.columns[i])
	}
	list := strings.Join(cols, ", ")
	one := "(?" + strings.Repeat(", ?", len(cols)-1) + ")"
	return "SELECT " + list + " FROM " + s.name + " WHERE (" + list + ") IN (" + one + strings.Repeat(", "+one, n-1) + ")"
}

// eachKey calls fn with the canonical key of each row of a query for the key columns. A row whose key no event can have is
// left out.
func (s *source) eachKey(ctx context.Context, q mysql.Querier, text string, args []any, d *schemas.Dataset, fn func(key string)) error {
	raw := make([]any, d.Replica.KeyColumns)
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	return mysql.Each(ctx, q, "read keys of "+s.label, text, args, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		values, err := s.keyValues(d, raw)
		if err != nil {
			return err
		}
		if key, err := d.FormatKey(values...); err == nil {
			fn(key)
		}
		return nil
	})
}
