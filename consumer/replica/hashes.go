package replica

import (
	"context"
	"strings"
)

// Hashes gives dataset → hash of its cache section, as `freshet migrate datasets` noted them.
func (m *MySQL) Hashes(ctx context.Context) (hashes map[string]string, err error) {
	prefix := metaDataset("")
	rows, err := m.db.QueryContext(ctx, "SELECT name, value FROM freshet_meta WHERE name LIKE ?", []byte(prefix+"%"))
	if err != nil {
		return nil, doing("read cache hashes", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	hashes = map[string]string{}
	for rows.Next() {
		var name, value []byte
		if err := rows.Scan(&name, &value); err != nil {
			return nil, doing("read cache hashes", "", err)
		}
		hashes[strings.TrimPrefix(string(name), prefix)] = string(value)
	}
	if err := rows.Err(); err != nil {
		return nil, doing("read cache hashes", "", err)
	}
	return hashes, nil
}
