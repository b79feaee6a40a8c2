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
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(many))
	for i := range many {
		l := &many[i]
		keys, args, err := s.getCall(l.Key, l.Token)
		if err != nil {
			l.Err = err
			continue
		}
		cmds[i] = s.get.EvalSha(ctx, pipe, keys, args...)
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for i, cmd := range cmds {
		if cmd == nil {
			continue
		}
		l := &many[i]
		v, err := cmd.Result()
		if redis.HasErrorPrefix(err, "NOSCRIPT") { // a master that was started since: Get brings the script
			l.Reply, l.Err = s.Get(ctx, l.Key, l.Token)
			continue
		}
		l.Reply, l.Err = s.getResult(l.Key, v, err)
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
