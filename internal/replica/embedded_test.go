package replica_test

import (
	"context"
	"database/sql/driver"
	"io"
	"net"
	"testing"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	gms "github.com/dolthub/go-mysql-server/sql"
	gomysql "github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// embedded starts the embedded server of the dev stack, bare: it has no row locks and knows few session settings.
func embedded(t *testing.T) driver.Connector {
	t.Helper()
	logrus.SetOutput(io.Discard) // where the server reports every connection
	db := memory.NewDatabase("freshet")
	db.EnablePrimaryKeyIndexes()
	pro := memory.NewDBProvider(db)
	engine := sqle.NewDefault(pro)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.NewServer(server.Config{Protocol: "tcp", Address: l.Addr().String(), Listener: l},
		engine, gms.NewContext, memory.NewSessionBuilder(pro), nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Start() // ends with Close
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		testenv.Await(t, done)
		_ = engine.Close() // reports its own end
	})
	cfg := gomysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName, cfg.ClientFoundRows = "tcp", l.Addr().String(), "root", "freshet", true
	cfg.Logger = &gomysql.NopLogger{}
	c, err := gomysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEmbeddedServer is the way of every part of the replica through the server that `freshet-dev` uses.
func TestEmbeddedServer(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Connector: embedded(t), PlainSession: true, Writers: 1}})
	b.apply(t, b.item(t, 1, 5, "five"), b.item(t, 2, 1, "one"))
	b.apply(t, b.item(t, 1, 4, "four"), b.item(t, 2, 2, "two"))
	b.wantRow(t, 1, "5:five")
	b.wantRow(t, 2, "2:two")
	b.apply(t, b.gone(t, 1, 6))
	b.apply(t, b.item(t, 1, 5, "late"))
	b.wantRow(t, 1, "6:deleted")

	batch := b.batch()
	batch.Letters = []*replica.Letter{{
		Offset: b.off.Add(1) - 1, Dataset: "items", Key: "2", Version: 3, Op: schemas.Upsert, Reason: schemas.ReasonSchema,
		CacheKey: "item:2", Record: &schemas.Record{Value: []byte("v")},
	}}
	if _, err := b.Apply(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.apply(t, b.item(t, 2, 4, "four"))
	if ls := b.letters(t); len(ls) != 1 || ls[0].State != replica.StateSuperseded {
		t.Errorf("letters %+v", ls)
	}
	names, err := b.Lanes("").Displaced(t.Context(), src, 0, 100)
	if err != nil || len(names) != 1 || names[0].Name != "item:2" {
		t.Errorf("displaced %v, %v", names, err)
	}
	if p := b.take(t, "b", 2); p.Fence != b.pos.Fence+1 || p.Next != b.off.Load() {
		t.Errorf("position %+v", p)
	}
	lanes(t, b)
	topics(t, b)

	ds, _ := b.set.Get("wide")
	b.pos = b.take(t, "c", 3)
	b.apply(t, b.event(t, "wide", 1, schemas.Upsert, `{"shop":"z","number":7,"order":"naïve 🎈","price":"-12.50","ratio":0.1,
		"on":true,"tags":[1],"at":"2026-03-01T12:00:00.25+02:00","day":"2026-03-01"}`))
	r, err := b.Rows.Get(context.WithoutCancel(t.Context()), ds, "z,7")
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Properties(ds); p["at"] != "2026-03-01T10:00:00.25Z" || p["price"] != "-12.50" || p["on"] != true {
		t.Errorf("row %v", p)
	}
	// The embedded server has one number, 1105, for everything that it refuses, so a refused row cannot be told from a
	// fault there: the batch waits. What the schema allows, its tables take.
	if _, err = b.Apply(t.Context(), b.batch(bad(b.item(t, 10, 1, "")))); err == nil {
		t.Error("a refused row was taken")
	}
	b.wantRow(t, 10, "none")
	b.apply(t, b.item(t, 11, 1, "good"))
	b.wantRow(t, 11, "1:good")
}
