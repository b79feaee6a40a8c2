package admin

import (
	"context"
	"time"
)

// LetterGroup are open letters with one thing wrong.
type LetterGroup struct {
	Dataset string    `json:"dataset"`
	Reason  string    `json:"reason"`
	Errno   int       `json:"errno,omitempty"`
	Detail  string    `json:"detail"`
	Count   int64     `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

const sqlGroups = "SELECT dataset, reason, COALESCE(errno, 0), detail, COUNT(*), MIN(created_at), MAX(created_at) FROM freshet_dead_letter" +
	" WHERE state = 'open' GROUP BY dataset, reason, COALESCE(errno, 0), detail ORDER BY COUNT(*) DESC LIMIT 500"

func (ls *letters) groupLetters(ctx context.Context, _ *empty) (*listed[LetterGroup], error) {
	groups, err := ls.groups(ctx)
	if err != nil {
		return nil, ls.answers.fail(ctx, "group dead letters", err)
	}
	return listOf(groups), nil
}

func (ls *letters) groups(ctx context.Context) (groups []LetterGroup, err error) {
	rows, err := ls.sql.QueryContext(ctx, sqlGroups)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var g LetterGroup
		var dataset, reason, detail []byte
		var first, last int64
		if err := rows.Scan(&dataset, &reason, &g.Errno, &detail, &g.Count, &first, &last); err != nil {
			return nil, err
		}
		g.Dataset, g.Reason, g.Detail = text(dataset), text(reason), text(detail)
		g.First, g.Last = instant(first), instant(last)
		groups = append(groups, g)
	}
	return groups, rows.Err()
}
