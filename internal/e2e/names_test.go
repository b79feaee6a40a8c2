package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

const peopleSchema = `{
  "type": "object", "required": ["id", "mail", "org"],
  "properties": {"id": {"type": "integer"}, "mail": {"type": "string", "maxLength": 40}, "org": {"type": "integer"}}
}`

const peopleDataset = `dataset: people
topic: %[1]s
schema: people.json
key: [id]
cache:
  key: "p:{id}"
  derived: ["p:mail:{mail}"]
  tags: ["p:org:{org}"]
  external: ["%[2]s-old:{mail}"]
`

const mailTemplate = "p:mail:{mail}"

type person struct {
	ID   int64  `json:"id"`
	Mail string `json:"mail"`
	Org  int64  `json:"org"`
}

// people is a world whose records have more names than their keys, in a namespace of several lanes.
type people struct {
	*world
	foreign string // prefix of the foreign keys
	rdb     redis.UniversalClient
	pub     *producer.Producer
	version map[int64]int64
	latest  schemas.Token
}

const peopleLanes = 3

func newPeople(t *testing.T, env ...string) *people {
	t.Helper()
	rs := testenv.StartRedis(t, testenv.RedisOptions{})
	return newPeopleOn(t, rs, rs.Client(t), env...)
}

// newPeopleOn is newPeople behind any client; rs is one of its servers.
func newPeopleOn(t *testing.T, rs *testenv.RedisServer, rdb redis.UniversalClient, env ...string) *people {
	t.Helper()
	topic := testenv.Kafka(t).Topic(t)
	p := &people{version: map[int64]int64{}, foreign: rs.Namespace(t), rdb: rdb}
	p.world = newWorld(t, rs, map[string]string{
		"people.yaml": fmt.Sprintf(peopleDataset, topic, p.foreign), "people.json": peopleSchema,
	})
	p.env = append(env, fmt.Sprintf("FRESHET_LANES=%d", peopleLanes))
	p.pub = p.producer()
	return p
}

func (p *people) publish(who person, op schemas.Op) {
	p.t.Helper()
	p.version[who.ID]++
	ev := schemas.Event{Dataset: "people", Key: fmt.Sprint(who.ID), Op: op, Version: p.version[who.ID]}
	if op == schemas.Upsert {
		ev.Data, _ = json.Marshal(who)
	}
	tok, err := p.pub.Publish(p.t.Context(), ev)
	if err != nil {
		p.t.Fatal(err)
	}
	p.latest = p.latest.Merge(tok)
}

// phone is a node with a cache of people and one of lookups by mail.
type phone struct {
	*invalidation.Node
	byID   *invalidation.Cache[person]
	byMail *invalidation.Cache[int64]
}

func (p *people) phone(id string) *phone {
	p.t.Helper()
	n, err := invalidation.Join(p.t.Context(), p.rdb, invalidation.Config{Namespace: p.ns, Datasets: p.datasets, Lanes: peopleLanes, ID: id})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { n.Close() })
	ph := &phone{Node: n}
	ph.byID, err = invalidation.NewCache(n, invalidation.CacheConfig[person]{
		Dataset: "people", Load: p.load, Form: invalidation.FormNone, // so that the tests can write an entry by hand
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ph.byMail, err = invalidation.NewCache(n, invalidation.CacheConfig[int64]{Dataset: "people", Derived: mailTemplate, Load: p.find})
	if err != nil {
		p.t.Fatal(err)
	}
	return ph
}

func (p *people) load(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[person], error) {
	var v person
	l := invalidation.Loaded[person]{From: invalidation.Primary}
	var mail sql.NullString
	var org sql.NullInt64
	var deleted bool
	err := p.db.QueryRowContext(ctx, "SELECT id, mail, org, _version, _deleted FROM people WHERE id = ?", key).
		Scan(&v.ID, &mail, &org, &l.Version, &deleted)
	if errors.Is(err, sql.ErrNoRows) {
		return l, nil
	}
	v.Mail, v.Org = mail.String, org.Int64
	l.Value, l.Found = v, !deleted
	if l.Found {
		d, _ := p.datasets.Get("people")
		tag, err := d.Tag("p:org:{org}", v.Org)
		if err != nil {
			return l, err
		}
		l.Tags = []string{tag}
	}
	return l, err
}

func (p *people) find(ctx context.Context, mail string, _ invalidation.Source) (invalidation.Loaded[int64], error) {
	l := invalidation.Loaded[int64]{From: invalidation.Primary}
	err := p.db.QueryRowContext(ctx, "SELECT id FROM people WHERE mail = ? AND _deleted = 0 ORDER BY id LIMIT 1", mail).Scan(&l.Value)
	if errors.Is(err, sql.ErrNoRows) {
		return l, nil
	}
	l.Found = err == nil
	return l, err
}

// wait lets everything that was published reach the node.
func (p *people) wait(n *phone) {
	p.t.Helper()
	p.seen(n.Node, p.latest)
}

func (p *people) wantByMail(n *phone, mail string, want int64) {
	p.t.Helper()
	got, err := n.byMail.Get(p.t.Context(), mail)
	if want == 0 && !errors.Is(err, invalidation.ErrNotFound) || want != 0 && (err != nil || got != want) {
		p.t.Errorf("%s is %d, %v; want %d", mail, got, err, want)
	}
}

func TestDerivedTagsAndForeign(t *testing.T) {
	p := newPeople(t)
	p.startWorker()
	n := p.phone("n1")
	p.publish(person{1, "ada@x", 7}, schemas.Upsert)
	p.publish(person{2, "bob@x", 7}, schemas.Upsert)
	p.publish(person{3, "eve@x", 8}, schemas.Upsert)
	p.wait(n)
	p.wantByMail(n, "ada@x", 1)
	p.wantByMail(n, "new@x", 0)
	get := func(id string) {
		t.Helper()
		if _, err := n.byID.Get(t.Context(), id); err != nil {
			t.Error(err)
		}
		if _, ok := n.byID.Peek(id); !ok {
			t.Errorf("person %s is not kept", id)
		}
	}
	for _, mail := range []string{"ada@x", "new@x", "other@x"} {
		if err := p.rdb.Set(t.Context(), p.foreign+"-old:"+mail, "x", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	get("2")
	get("3")

	p.publish(person{1, "new@x", 8}, schemas.Upsert) // another mail and another org
	p.wait(n)
	p.wantByMail(n, "ada@x", 0)
	p.wantByMail(n, "new@x", 1)
	for _, id := range []string{"2", "3"} { // labelled with the old org and with the new one
		if _, ok := n.byID.Peek(id); ok {
			t.Errorf("person %s is still there, although its tag was invalidated", id)
		}
	}
	for mail, want := range map[string]int64{"ada@x": 0, "new@x": 0, "other@x": 1} {
		if got, err := p.rdb.Exists(t.Context(), p.foreign+"-old:"+mail).Result(); err != nil || got != want {
			t.Errorf("foreign key of %s: %d, %v; want %d", mail, got, err, want)
		}
	}
	p.publish(person{ID: 1}, schemas.Delete)
	p.wait(n)
	p.wantByMail(n, "new@x", 0)
}

// How many people and mail addresses change and are read.
const persons, mails = 30, 20

// change returns a random person another mail, or removes it.
func (p *people) change() {
	p.t.Helper()
	op := schemas.Upsert
	if rand.N(10) == 0 {
		op = schemas.Delete
	}
	p.publish(person{int64(1 + rand.N(persons)), fmt.Sprintf("m%d@x", rand.N(mails)), int64(rand.N(4))}, op)
}

// read reads something.
func (n *phone) read(ctx context.Context) {
	_, _ = n.byMail.Get(ctx, fmt.Sprintf("m%d@x", rand.N(mails)))
	_, _ = n.byID.Get(ctx, fmt.Sprint(1+rand.N(persons)))
}

// Mails wander between people while workers are killed and lanes are lost: at rest every lookup tells the truth.
func TestNamesConverge(t *testing.T) {
	for name, env := range map[string][]string{
		"key by key": nil,
		"governed":   {"FRESHET_WORKER__MAX_KEY_RATE=20"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeople(t, env...)
			first := p.startWorker()
			p.startWorker()
			nodes := []*phone{p.phone("n1"), p.phone("n2")}
			const changes = 1500
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					n := nodes[rand.N(len(nodes))]
					n.read(ctx)
				}
			}()
			for i := range changes {
				p.change()
				switch i {
				case changes / 3:
					first.Kill(t)
				case changes / 2:
					k := lane.KeysOf(p.ns, 1)
					if err := p.rdb.Del(t.Context(), k.Meta, k.Stream).Err(); err != nil {
						t.Error(err)
					}
				case changes * 2 / 3:
					p.startWorker()
				}
			}
			for _, n := range nodes {
				p.wait(n)
			}
			stop()
			testenv.Await(t, done)
			p.same(nodes)
			flags := int64(0)
			for _, l := range nodes[0].Stats().Lanes {
				flags += l.Flushes["flag"]
			}
			if env != nil && flags == 0 {
				t.Error("the governor flushed nothing")
			}
			t.Logf("%d flushes", flags)
		})
	}
}

// same compares every lookup and every record on every node with the database.
func (p *people) same(nodes []*phone) {
	p.t.Helper()
	testenv.Eventually(p.t, settleLimit, func(ctx context.Context) error {
		for _, n := range nodes {
			for m := range mails {
				mail := fmt.Sprintf("m%d@x", m)
				want, err := p.find(ctx, mail, invalidation.Primary)
				if err != nil {
					return err
				}
				got, err := n.byMail.Get(ctx, mail)
				if errors.Is(err, invalidation.ErrNotFound) == want.Found || err == nil && got != want.Value {
					return fmt.Errorf("a lookup of %s gives %d, %w; the database says %d, %t", mail, got, err, want.Value, want.Found)
				}
			}
			for id := 1; id <= persons; id++ {
				want, err := p.load(ctx, fmt.Sprint(id), invalidation.Primary)
				if err != nil {
					return err
				}
				got, err := n.byID.Get(ctx, fmt.Sprint(id))
				if errors.Is(err, invalidation.ErrNotFound) == want.Found || err == nil && got != want.Value {
					return fmt.Errorf("person %d is %+v, %w; the database says %+v, %t", id, got, err, want.Value, want.Found)
				}
			}
		}
		return nil
	})
}
