package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// A worker continues when the passwords of Kafka, MySQL and Redis are replaced while it runs: it logs in again with what the
// files hold by then.
func TestReplacedPasswordsAreUsedOnReconnect(t *testing.T) {
	ks := testenv.StartKafka(t, testenv.KafkaOptions{SCRAM: true, Properties: map[string]string{"connections.max.reauth.ms": "2000"}})
	ks.RequireReal(t)
	my, rs := testenv.StartMySQL(t, testenv.MySQLOptions{}), testenv.StartRedis(t, testenv.RedisOptions{})
	topic := ks.Topic(t)
	w := newWorldOn(t, servers{kafka: ks, redis: rs, mysql: my}, map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, topic)})
	dsn, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, rdb := t.TempDir(), rs.Client(t)
	exec := func(stmt string) {
		t.Helper()
		if _, err := w.db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// rotate makes password the only one that is good.
	rotate := func(password string) {
		t.Helper()
		ks.SetPassword(t, "worker", password)
		exec("ALTER USER worker@'127.0.0.1' IDENTIFIED BY '" + password + "'")
		if err := rdb.Do(t.Context(), "ACL", "SETUSER", "worker", "on", "resetpass", ">"+password, "~*", "&*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
		write("kafka", password+"\n")
		write("dsn", fmt.Sprintf("worker:%s@tcp(%s)/%s\n", password, my.Addr, dsn.DBName))
		write("url", fmt.Sprintf("redis://worker:%s@%s/0\n", password, rs.Addr))
	}
	exec("CREATE USER worker@'127.0.0.1'")
	exec("GRANT ALL ON *.* TO worker@'127.0.0.1'")
	rotate("first-password")
	w.env = []string{
		"FRESHET_KAFKA__BROKERS=" + strings.Join(ks.SCRAMBrokers, ","), "FRESHET_KAFKA__SASL__MECHANISM=scram-sha-256", "FRESHET_KAFKA__SASL__USERNAME=worker",
		"FRESHET_KAFKA__SASL__PASSWORD_FILE=" + filepath.Join(dir, "kafka"),
		"FRESHET_MYSQL__DSN=", "FRESHET_MYSQL__DSN_FILE=" + filepath.Join(dir, "dsn"),
		"FRESHET_REDIS__URL=", "FRESHET_REDIS__URL_FILE=" + filepath.Join(dir, "url"),
	}
	write("kafka", "wrong")
	own := health(t, w.startWorker())
	readies(t, own+"/readyz", waitsFor("waiting for the consumer group", "SASL Authentication Failed", "correct user and password"))
	write("kafka", "first-password")
	readies(t, own+"/readyz", isReady)
	n, p := w.node("n1"), w.producer()
	publish := func(version int64) {
		t.Helper()
		tok, err := p.Publish(t.Context(), schemas.Event{
			Dataset: "items", Key: "a", Op: schemas.Upsert, Version: version, Data: fmt.Appendf(nil, `{"id":"a","n":%d,"body":"x"}`, version),
		})
		if err != nil {
			t.Fatal(err)
		}
		w.seen(n.Node, tok)
	}
	publish(1)
	write("dsn", "")
	readies(t, own+"/readyz", isDegraded("mysql.dsn_file", "the file is empty; the previous content stays in use"))
	for i, password := range []string{"second-passwort", "third-password"} { // the previous is a little longer
		rotate(password)
		// Redis and MySQL keep sessions that are open; a new one must have the new password. Kafka asks every two seconds.
		if err := rdb.Do(t.Context(), "CLIENT", "KILL", "USER", "worker").Err(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, settleLimit, func(ctx context.Context) error { return killUser(ctx, w, "worker") })
		publish(int64(i) + 2)
	}
}

// killUser ends the connections of a database user; it fails when one has ended meanwhile.
func killUser(ctx context.Context, w *world, user string) error {
	rows, err := w.db.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE user = ?", user)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		if _, err := w.db.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err != nil {
			return err
		}
	}
	return rows.Err()
}
