package testenv

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// MySQLOptions of a MariaDB server. The zero value works.
type MySQLOptions struct {
	// Args are further arguments of mariadbd, such as "--innodb-lock-wait-timeout=2".
	Args []string
}

// MySQLServer is a MariaDB or MySQL that answers.
type MySQLServer struct {
	instance
	// Addr is host:port, for proxies.
	Addr string
	// Socket is the path of the unix socket, "" for a given server.
	Socket string
	// Version is what SELECT VERSION() returns.
	Version string

	account mysql.Config // how to reach it, without a database
}

// MariaDB reports whether the server is MariaDB, not MySQL.
func (s *MySQLServer) MariaDB() bool { return strings.Contains(s.Version, "MariaDB") }

// DSN is the driver's data source name of a database; "" for none.
func (s *MySQLServer) DSN(database string) string {
	c := s.account
	c.DBName = database
	return c.FormatDSN()
}

// TCP is DSN by way of another address: that of a proxy, or Addr itself.
func (s *MySQLServer) TCP(addr, database string) string {
	c := s.account
	c.Net, c.Addr, c.DBName = "tcp", addr, database
	return c.FormatDSN()
}

// NewDatabase makes an empty database and returns its DSN. It is dropped when the test ends.
func (s *MySQLServer) NewDatabase(t testing.TB) string {
	t.Helper()
	name := unique("t_")
	if err := s.exec(t.Context(), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4"); err != nil {
		t.Fatalf("testenv: make database: %v", err)
	}
	t.Cleanup(func() {
		if s.private {
			return // gone with the server, which may be down by now
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name); err != nil {
			t.Logf("testenv: drop database: %v", err)
		}
	})
	return s.DSN(name)
}

// Open returns a pool of connections to dsn that is closed when the test ends.
func (s *MySQLServer) Open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatalf("testenv: open database: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("testenv: close database: %v", err)
		}
	})
	return db
}

// exec runs one statement on a connection of its own.
func (s *MySQLServer) exec(ctx context.Context, stmt string) error {
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, stmt); err != nil {
		return fmt.Errorf("run statement: %w", err)
	}
	return nil
}

func givenMySQL(ctx context.Context, dsn string) (*MySQLServer, error) {
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", MySQLVar, err)
	}
	s := &MySQLServer{instance: instance{name: "MySQL"}, account: *c}
	if c.Net == "tcp" {
		s.Addr = c.Addr
	} else {
		s.Socket = c.Addr
	}
	port, _, err := s.ask(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the server of %s: %w", MySQLVar, err)
	}
	if s.Addr == "" && port != 0 {
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return s, nil
}

// ask notes the server's version and returns its port and directory.
func (s *MySQLServer) ask(ctx context.Context) (port int, dir string, err error) {
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return 0, "", fmt.Errorf("open server: %w", err)
	}
	defer db.Close()
	row := db.QueryRowContext(ctx, "SELECT VERSION(), @@port, @@datadir")
	if err := row.Scan(&s.Version, &port, &dir); err != nil {
		return 0, "", fmt.Errorf("ask for its version: %w", err)
	}
	return port, filepath.Clean(dir), nil
}

func startMySQL(ctx context.Context, l *launcher, o MySQLOptions) (*MySQLServer, error) {
	soft, err := mysqlSoftware()
	if err != nil {
		return nil, err
	}
	return startTried(ctx, l, func(ctx context.Context, dir string, port int) (*MySQLServer, error) {
		s := &MySQLServer{
			Addr:    net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			Socket:  filepath.Join(dir, "mysql.sock"),
			account: *mysql.NewConfig(),
		}
		s.account.User, s.account.Net, s.account.Addr = "root", "unix", s.Socket
		s.account.Logger = &mysql.NopLogger{}
		s.instance = instance{
			name: soft.name, dir: dir,
			boot: func(ctx context.Context) (*Process, error) { return s.bootOwn(ctx, l, soft, port, o) },
			wipe: func(ctx context.Context) error { return s.install(ctx, l, soft) },
		}
		if err := s.install(ctx, l, soft); err != nil {
			return nil, err
		}
		return s, s.start(ctx)
	})
}

// mysqlPrograms are the programs of MariaDB, or of MySQL, and the options that they need.
type mysqlPrograms struct {
	name, server, install   string
	serverArgs, installArgs []string
	initSQL                 string // run at each start
}

func mysqlSoftware() (mysqlPrograms, error) {
	if bin, ok := flavored("mysqld"); ok {
		return mysqlPrograms{
			name: "MySQL", server: bin, install: bin,
			serverArgs: []string{"--innodb-redo-log-capacity=64M"}, installArgs: []string{"--initialize-insecure"},
			// Without names to resolve, root@localhost has the socket alone.
			initSQL: "CREATE USER IF NOT EXISTS root@'127.0.0.1' IDENTIFIED BY '';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n",
		}, nil
	}
	const fix = "install mariadb-server or set " + MySQLVar
	server, err := program(fix, "mariadbd")
	if err != nil {
		return mysqlPrograms{}, err
	}
	install, err := program(fix, "mariadb-install-db")
	return mysqlPrograms{
		name: "MariaDB", server: server, install: install,
		serverArgs: []string{"--no-defaults", "--innodb-log-file-size=32M"},
		installArgs: []string{
			"--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=32M",
		},
	}, err
}

// install makes a fresh data directory whose root has no password: the server listens on loopback only.
func (s *MySQLServer) install(ctx context.Context, l *launcher, soft mysqlPrograms) error {
	data := filepath.Join(s.dir, "data")
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("empty data directory: %w", err)
	}
	args := append(slices.Clone(soft.installArgs), "--datadir="+data) // --no-defaults must come first
	return l.run(ctx, filepath.Base(soft.install), exec.Command(soft.install, asUser(args)...), filepath.Join(s.dir, "install.log"))
}

func (s *MySQLServer) bootOwn(ctx context.Context, l *launcher, soft mysqlPrograms, port int, o MySQLOptions) (*Process, error) {
	data := filepath.Join(s.dir, "data")
	init := filepath.Join(s.dir, "init.sql")
	if err := os.WriteFile(init, []byte(soft.initSQL), 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", init, err)
	}
	args := asUser(append(slices.Clone(soft.serverArgs), "--init-file="+init,
		"--datadir="+data, "--socket="+s.Socket, "--bind-address=127.0.0.1",
		"--port="+strconv.Itoa(port), "--pid-file="+filepath.Join(s.dir, "mysql.pid"), "--tmpdir="+s.dir,
		"--skip-name-resolve", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M",
		"--max-connections=400", "--character-set-server=utf8mb4",
	))
	p, err := l.start(filepath.Base(soft.server), exec.Command(soft.server, append(args, o.Args...)...), filepath.Join(s.dir, "mysql.log"))
	if err != nil {
		return nil, err
	}
	err = p.ready(ctx, func(ctx context.Context) error {
		if _, err := os.Stat(s.Socket); err != nil {
			return fmt.Errorf("look for the socket: %w", err)
		}
		_, dir, err := s.ask(ctx)
		if err != nil {
			return err
		}
		if dir != data {
			return errForeign
		}
		return dial(ctx, s.Addr)
	})
	if err != nil {
		return nil, kill(p, err)
	}
	return p, nil
}

// asUser: MariaDB wants to hear it when it is to run as root, which owns the temporary directory.
func asUser(args []string) []string {
	if os.Geteuid() == 0 {
		return append(args, "--user=root")
	}
	return args
}
