package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
)

// accountPassword is that of every account of these tests.
const accountPassword = "least"

// noSuchTable is MySQL's error for a table that migrate datasets will make.
const noSuchTable = 1146

// roleOf is the role whose grants a command of freshet needs.
func roleOf(command string) string {
	switch command {
	case "worker", "serve", "migrate", "relay", "backfill":
		return command
	case "outbox":
		return "relay"
	case "publish":
		return "publisher"
	default:
		return "admin"
	}
}

// grant makes the accounts of all roles, or gives them what new tables and topics need, as freshet grants prints it: from then on each
// command has its own account in MySQL, Redis and, where the broker has a listener for that, Kafka.
func (w *world) grant() {
	w.t.Helper()
	args := []string{"grants", "--json", "--user", "ACCOUNT", "--database", w.database()}
	if w.rebuilds {
		args = append(args, "--rebuilds")
	}
	w.accounts = false // the command connects to nothing, but new commands below may
	var roles []struct {
		Role  string
		MySQL []string
		Kafka []testenv.KafkaRule
		Redis []string
	}
	if err := json.Unmarshal([]byte(w.mustRun(args...)), &roles); err != nil {
		w.t.Fatal(err)
	}
	for _, r := range roles {
		user := w.account(r.Role)
		for _, host := range []string{"localhost", "%"} {
			w.exec("CREATE USER IF NOT EXISTS '" + user + "'@'" + host + "' IDENTIFIED BY '" + accountPassword + "'")
			for _, grant := range r.MySQL {
				_, err := w.db.ExecContext(w.t.Context(), strings.Replace(grant, "'ACCOUNT'@'%'", "'"+user+"'@'"+host+"'", 1))
				if my := (*mysql.MySQLError)(nil); err != nil && (!errors.As(err, &my) || my.Number != noSuchTable) {
					w.t.Fatalf("%s: %v", grant, err)
				}
			}
		}
		if len(r.Redis) > 0 {
			w.redis.SetUser(w.t, user, append([]string{">" + accountPassword}, r.Redis...)...)
		}
		if w.kafka.Authorizer && len(r.Kafka) > 0 {
			w.kafka.SetPassword(w.t, user, accountPassword)
			w.kafka.Allow(w.t, user, r.Kafka)
		}
	}
	w.accounts = true
}

// account is the name of a role's account in this world. MySQL takes 32 characters.
func (w *world) account(role string) string { return w.database() + "_" + role }

// dropAccounts removes the accounts from the shared database.
func (w *world) dropAccounts() {
	ctx := context.WithoutCancel(w.t.Context())
	for _, role := range []string{"migrate", "outbox", "publisher", "relay", "backfill", "worker", "admin", "serve", "node"} {
		for _, host := range []string{"localhost", "%"} {
			if _, err := w.db.ExecContext(ctx, "DROP USER IF EXISTS '"+w.account(role)+"'@'"+host+"'"); err != nil {
				w.t.Logf("drop user: %v", err)
			}
		}
	}
}

// login are the settings with which a command uses the account of its role.
func (w *world) login(command string) []string {
	if !w.accounts {
		return nil
	}
	w.t.Helper()
	user := w.account(roleOf(command))
	cfg, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.User, cfg.Passwd = user, accountPassword
	env := []string{"FRESHET_MYSQL__DSN=" + cfg.FormatDSN(), "FRESHET_REDIS__URL=redis://" + user + ":" + accountPassword + "@" + w.redis.Addr + "/0"}
	if w.kafka.Authorizer {
		env = append(env, "FRESHET_KAFKA__BROKERS="+strings.Join(w.kafka.SCRAMBrokers, ","), "FRESHET_KAFKA__SASL__MECHANISM=scram-sha-256",
			"FRESHET_KAFKA__SASL__USERNAME="+user, "FRESHET_KAFKA__SASL__PASSWORD="+accountPassword)
	}
	return env
}

// The accounts of freshet grants may do what their programs do, which every other test here shows, and no more.
func TestAccountsMayDoNoMore(t *testing.T) {
	t.Parallel()
	w := itemWorld(t)
	other := w.redis.Namespace(t)
	for role, stmt := range map[string]string{
		"worker": "CREATE TABLE more (a INT)", "admin": "DELETE FROM freshet_audit", "node": "DELETE FROM items", "migrate": "CREATE USER more", "backfill": "SELECT * FROM freshet_position",
	} {
		cfg, err := mysql.ParseDSN(w.dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.User, cfg.Passwd = w.account(role), accountPassword
		db, err := sql.Open("mysql", cfg.FormatDSN())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var my *mysql.MySQLError
		if _, err := db.ExecContext(t.Context(), stmt); !errors.As(err, &my) || my.Number == 1146 {
			t.Errorf("%s: %s: %v", role, stmt, err)
		}
	}
	for _, role := range []string{"worker", "admin", "node"} {
		rdb := redis.NewClient(&redis.Options{Addr: w.redis.Addr, Username: w.account(role), Password: accountPassword, MaxRetries: -1})
		defer rdb.Close()
		for _, cmd := range [][]any{
			{"GET", "{fr:" + other + ":0}:v:item:1"}, {"SET", "item:1", "x"}, {"PUBLISH", "{fr:" + other + ":0}:ch", "x"}, {"FLUSHDB"}, {"KEYS", "*"}, {"CONFIG", "GET", "dir"}, {"ACL", "LIST"},
		} {
			if err := rdb.Do(t.Context(), cmd...).Err(); !redis.IsPermissionError(err) {
				t.Errorf("%s: %v: %v", role, cmd, err)
			}
		}
	}
	if !w.kafka.Authorizer {
		return
	}
	if _, problem, code := w.run(`{"dataset":"items","key":"a","op":"upsert","version":1,"data":{"id":"a","n":1,"body":"x"}}`, "publish", "--kafka-sasl-username", w.account("relay")); code != 0 {
		t.Errorf("the relay's account cannot publish: %s", problem)
	}
	w.env = append(w.env, "FRESHET_KAFKA__SASL__USERNAME="+w.account("migrate"))
	if _, problem, code := w.run(`{"dataset":"items","key":"a","op":"upsert","version":2,"data":{"id":"a","n":2,"body":"x"}}`, "publish"); code == 0 || !strings.Contains(problem, "uthoriz") {
		t.Errorf("the account of migrations published: %d, %s", code, problem)
	}
}

// A worker whose account may not make tables says so when a rebuild asks for it.
func TestRebuildWithoutTheRightSaysSo(t *testing.T) {
	t.Parallel()
	w := itemWorld(t)
	_, url := w.serve("s1")
	publish(t, w.producer(), upsert("items", "a", 1, "x"))
	w.reaches(1, "SELECT COUNT(*) FROM items")
	_, problem, code := w.run("", "replay", "start", "items", "--rebuild", "--apply", "--watch", "--client-url", url)
	if code != 1 || !strings.Contains(problem, "does not see the triggers of table items") || !strings.Contains(problem, "freshet grants --rebuilds") {
		t.Errorf("%d: %s", code, problem)
	}
}
