package shop

import (
	"context"
	"database/sql"
	"errors"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

// Service is a process of the shop that changes users and caches them, and may run a worker. It runs in the folder that has datasets.
type Service struct {
	// Brokers are Kafka's.
	Brokers []string
	// Redis has the lanes.
	Redis redis.UniversalClient
	// DB is the primary of the replica, which the workers write; DSN is how a worker of this process reaches it.
	DB  *sql.DB
	DSN string
}

// User is what readers get of a user.
type User struct{ Name, Email string }

// Row is what the service has just committed in its own database.
type Row struct {
	Version int64
	Body    []byte
}

// Publish publishes the new state of user 42. The token is for readers that must see this change.
func (s *Service) Publish(ctx context.Context, row Row) (schemas.Token, error) {
	datasets, err := schemas.LoadDatasets(os.DirFS("datasets"))
	if err != nil {
		return schemas.Token{}, err
	}
	p, err := producer.New(producer.Config{Brokers: s.Brokers, Datasets: datasets, Source: "//shop/db"})
	if err != nil {
		return schemas.Token{}, err
	}
	defer p.Close()
	tok, err := p.Publish(ctx, schemas.Event{Dataset: "users", Key: "42", Op: schemas.Upsert, Version: row.Version, Data: row.Body})
	if err != nil {
		return schemas.Token{}, err
	}
	return tok, nil
}

// Read returns user 42, at least as new as the change of the token. A real service keeps its node and its caches as long as it runs.
func (s *Service) Read(ctx context.Context, tok schemas.Token) (User, error) {
	datasets, err := schemas.LoadDatasets(os.DirFS("datasets"))
	if err != nil {
		return User{}, err
	}
	node, err := invalidation.Join(ctx, s.Redis, invalidation.Config{Namespace: "shop", Datasets: datasets})
	if err != nil {
		return User{}, err
	}
	defer node.Close()
	users, err := invalidation.NewCache(node, invalidation.CacheConfig[User]{Dataset: "users", Load: s.loadUser})
	if err != nil {
		return User{}, err
	}
	err = node.WaitFor(ctx, tok) // read your own writes
	if err != nil {
		return User{}, err
	}
	u, err := users.Get(ctx, "42") // local, then shared, then loadUser; see "What is promised" for its age
	if err != nil {
		return User{}, err
	}
	return u, nil
}

// Work runs a worker in this process until ctx ends, in place of freshet worker.
func (s *Service) Work(ctx context.Context) error {
	datasets, err := schemas.LoadDatasets(os.DirFS("datasets"))
	if err != nil {
		return err
	}
	w, err := consumer.New(consumer.Config{
		Datasets: datasets, Namespace: "shop", Redis: s.Redis, Kafka: consumer.Kafka{Brokers: s.Brokers}, MySQL: consumer.MySQL{DSN: s.DSN},
	})
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Run(ctx) // until ctx ends; w.NotReady() and w.Degraded() state what does not work
}

// loadUser reads one record from the replica table. A missing or deleted row is not an error: Found stays false.
func (s *Service) loadUser(ctx context.Context, key string, _ invalidation.Source) (invalidation.Loaded[User], error) {
	l := invalidation.Loaded[User]{From: invalidation.Primary} // this DB is the primary; with read replicas see docs/caches.md
	var name, email sql.NullString                             // NULL in a deleted row
	var deleted bool
	err := s.DB.QueryRowContext(ctx, "SELECT display_name, email, _version, _deleted FROM users WHERE id = ?", key).
		Scan(&name, &email, &l.Version, &deleted)
	l.Value = User{Name: name.String, Email: email.String}
	if errors.Is(err, sql.ErrNoRows) {
		return l, nil
	}
	l.Found = err == nil && !deleted
	return l, err
}
