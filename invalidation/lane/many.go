package lane

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Lookup is one of several shared lookups: what Get takes, and what it returns.
type Lookup struct {
	Key, Token string
	Reply      GetReply
	Err        error
}

// GetMany is Get of several keys, whatever their lanes, in one pipeline. It sets Reply or Err of each; keys fail one by one.
func (s *Scripts) GetMany(ctx context.Context, many []Lookup) {
	s.pipeline(ctx, s.get, len(many), func(i int) (keys []string, args []any, err error) {
		keys, args, many[i].Err = s.getCall(many[i].Key, many[i].Token)
		return keys, args, many[i].Err
	}, func(i int, v any, err error) {
		l := &many[i]
		l.Reply, l.Err = s.getResult(l.Key, v, err)
	})
}

// Filling is one of several fills: what Fill takes, and what it returns.
type Filling struct {
	FillRequest

	Status FillStatus
	Err    error
}

// FillMany is Fill of several keys, whatever their lanes, in one pipeline. It sets Status or Err of each; keys fail one by one.
func (s *Scripts) FillMany(ctx context.Context, many []Filling) {
	s.pipeline(ctx, s.fill, len(many), func(i int) (keys []string, args []any, err error) {
		keys, args, many[i].Err = s.fillCall(many[i].FillRequest)
		return keys, args, many[i].Err
	}, func(i int, v any, err error) {
		f := &many[i]
		f.Status, f.Err = s.fillResult(f.Key, v, err)
	})
}

// pipeline runs a script n times in one round trip, leaving out the calls that call refuses, and passes each result to set.
func (s *Scripts) pipeline(ctx context.Context, script *redis.Script, n int, call func(i int) (keys []string, args []any, err error), set func(i int, v any, err error)) {
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.Cmd, n)
	for i := range cmds {
		if keys, args, err := call(i); err == nil {
			cmds[i] = script.EvalSha(ctx, pipe, keys, args...)
		}
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for i, cmd := range cmds {
		if cmd == nil {
			continue
		}
		v, err := cmd.Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") { // a server that was started since: Run brings the script
			keys, args, _ := call(i)
			v, err = script.Run(ctx, s.rdb, keys, args...).Result()
		}
		set(i, v, err)
	}
}

// getCall returns the keys and the arguments of the get script.
func (s *Scripts) getCall(key, token string) (keys []string, args []any, err error) {
	n := s.Of(key)
	if token == "" || len(token) > MaxToken {
		return nil, nil, fmt.Errorf("get from lane %d: token of %d bytes: %w", n, len(token), ErrFill)
	}
	k := s.lanes[n]
	return []string{k.Value(key), k.Meta, k.Tags, k.Floors0, k.Floors1}, []any{token, max(s.cfg.LeaseTTL.Milliseconds(), 1)}, nil
}

func (s *Scripts) getResult(key string, v any, err error) (GetReply, error) {
	var f []string
	if err == nil {
		f, err = fields(v)
	}
	if err != nil {
		return GetReply{}, fmt.Errorf("get from lane %d: %w", s.Of(key), err)
	}
	r, ok := getReply(f)
	if !ok {
		return GetReply{}, fmt.Errorf("get from lane %d: %w", s.Of(key), ErrReply)
	}
	return r, nil
}

// Discard removes the shared entry of a cache key, or a lease to fill it. That is always safe: floors are kept elsewhere.
func (s *Scripts) Discard(ctx context.Context, key string) error {
	n := s.Of(key)
	pipe := s.rdb.Pipeline()
	pipe.Unlink(ctx, s.lanes[n].Value(key))
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("discard entry of lane %d: %w", n, err)
	}
	return nil
}

// IsWrongType reports whether err is Redis's answer for a key that holds another type than the script's.
func IsWrongType(err error) bool {
	return err != nil && strings.Contains(err.Error(), "WRONGTYPE") // before Redis 7 the text of a script's error begins otherwise
}
