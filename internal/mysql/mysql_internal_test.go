package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestDialectOf(t *testing.T) {
	for version, want := range map[string]Dialect{
		"10.11.19-MariaDB-0+deb12u1": MariaDB, "5.5.5-10.6.4-mariadb": MariaDB, "8.4.3": ModernMySQL, "9.1.0-cluster": ModernMySQL,
		"8.0.19": ModernMySQL, "8.0.18-log": OldMySQL, "5.7.44": OldMySQL, "8.0.31-freshet-dev": ModernMySQL, "unknown": OldMySQL, "8": OldMySQL,
	} {
		if got := dialectOf(version); got != want {
			t.Errorf("%s is %s, want %s", version, got, want)
		}
	}
}

func TestClassify(t *testing.T) {
	my := func(n uint16) error {
		return Wrap("x", "t", &mysql.MySQLError{Number: n, Message: "Duplicate entry 'secret'"})
	}
	for want, errs := range map[Class][]error{
		ClassConflict:       {my(1213), my(1205), my(3572), my(1020)},
		ClassPoison:         {my(1048), my(1062), my(1264), my(1265), my(1292), my(1366), my(1406), my(1690), my(3140), my(3819), my(4025)},
		ClassDataset:        {my(1054), my(1064), my(1136), my(1146), my(1390), my(1451), my(1452)},
		ClassConnection:     {mysql.ErrInvalidConn, driver.ErrBadConn, &net.OpError{Err: errors.New("x")}, fmt.Errorf("x: %w", mysql.ErrInvalidConn)},
		ClassUnknown:        {my(1118), my(1364), my(1526), my(1644), my(3157), my(9999)},
		ClassInfrastructure: {my(1040), my(1045), my(1114), my(1290), my(1836), my(1105), my(1021), my(1030), my(1047), my(1142), my(1180), my(1203), my(1317), my(1461), my(1665), my(3024), my(3101), errors.New("x"), context.Canceled},
	} {
		for _, err := range errs {
			if got := Classify(err); got != want {
				t.Errorf("%v is of class %d, want %d", err, got, want)
			}
			own := map[Class]Class{ClassPoison: ClassInfrastructure, ClassDataset: ClassInfrastructure, ClassUnknown: ClassInfrastructure}
			wantOwn, ok := own[want]
			if n, _ := Errno(err); n == 1062 {
				wantOwn = ClassConflict
			} else if !ok {
				wantOwn = want
			}
			if got := classifyOwn(err); got != wantOwn {
				t.Errorf("%v on our own tables is of class %d, want %d", err, got, wantOwn)
			}
		}
	}
	err := Wrap("apply batch", "", my(1062))
	if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "1062") {
		t.Errorf("error text %q", err)
	}
	if n, ok := Errno(err); !ok || n != 1062 {
		t.Errorf("number %d, %t", n, ok)
	}
}

func TestDriverConfig(t *testing.T) {
	for _, flag := range []string{"multiStatements", "allowAllFiles", "interpolateParams", "allowCleartextPasswords"} {
		_, err := Config{DSN: "u:secret@tcp(h:1)/d?" + flag + "=true"}.DriverConfig()
		if err == nil || !strings.Contains(err.Error(), flag) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	for name, c := range map[string]Config{
		"bad DSN": {DSN: "u:secret@tcp(h:1"}, "no database": {DSN: "u:secret@tcp(h:1)/"}, "no database in fields": {Addr: "h:1"},
	} {
		if _, err := c.DriverConfig(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]Config{
		"nothing": {}, "two": {DSN: "x", Addr: "y"}, "negative": {Addr: "h:1", Writers: -1}, "negative time": {Addr: "h:1", Idle: -1},
	} {
		if _, err := Open(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg, err := Config{Addr: "h:3306", User: "u", Password: "p@:/?", Database: "d"}.DriverConfig()
	if err != nil {
		t.Fatal(err)
	}
	if !cfg.ClientFoundRows || !cfg.RejectReadOnly || cfg.ParseTime || cfg.MaxAllowedPacket != 0 || cfg.Collation != "utf8mb4_bin" ||
		cfg.ReadTimeout == 0 || cfg.WriteTimeout == 0 || cfg.Timeout == 0 || cfg.Passwd != "p@:/?" {
		t.Errorf("driver configuration %+v", cfg)
	}
	if cfg, err = (Config{DSN: "u:p@tcp(h:1)/d?parseTime=true&clientFoundRows=false"}).DriverConfig(); err != nil || cfg.ParseTime || !cfg.ClientFoundRows {
		t.Errorf("the DSN has its way: %+v, %v", cfg, err)
	}
}
