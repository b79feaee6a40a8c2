package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of a shared entry.
const (
	// MaxEntryTags is the greatest number of tags of one entry.
	MaxEntryTags = 8
	// MaxToken is the greatest length of a fill token, in bytes.
	MaxToken = 512
)

// ErrFill: a fill that the protocol cannot carry (too many tags, a tag that is empty, too long or has a line break, a
// version out of range, a bad token). The value may be served but not shared.
var ErrFill = errors.New("value cannot be shared")

// GetStatus is the get script's answer.
type GetStatus uint8

const (
	// GetHit: Value, Version and Tags are valid.
	GetHit GetStatus = iota + 1
	// GetLease: the caller may fill; Floor and Root are set.
	GetLease
	// GetBusy: another holds the lease; Floor binds the caller's load too.
	GetBusy
	// GetNoLane: the lane does not exist; nothing can be shared.
	GetNoLane
)

// GetReply is what a shared lookup gave.
type GetReply struct {
	Status  GetStatus
	Version int64
	Value   []byte
	Tags    []string
	// Floor is the least version that may fill; PrimaryOnly: only a load from the primary may. 0: any.
	Floor int64
	// Root is the lane's root, with GetHit and GetLease. A caller that last saw another one must not use the reply before it has read the
	// lane's state again: the lane was flushed since, perhaps for other cache sections.
	Root string
}

// FillStatus is the fill script's answer.
type FillStatus uint8

const (
	// FillOK: stored.
	FillOK FillStatus = iota + 1
	// FillLost: the lease is gone. Serve the value, cache it nowhere.
	FillLost
	// FillStale: the value is older than the floor. Load again from the primary, same token.
	FillStale
	// FillPrimary: only a load from the primary may fill now. Load again from there, same token.
	FillPrimary
)

// FillRequest is a loaded value on its way into the shared tier.
type FillRequest struct {
	// Key is the cache key, Token the one that Get was called with.
	Key, Token string
	// Version of the record; 0 for keys without one.
	Version int64
	Value   []byte
	// Tags of the entry, at most MaxEntryTags.
	Tags []string
	// TTL of the value, at least a millisecond; 0 means DefaultValueTTL.
	TTL time.Duration
	// Primary: the value was loaded from the primary by a fresh read, after Get.
	Primary bool
}

// Get looks up the shared entry of a cache key, or takes the lease to fill it. token is unique per fill attempt, 1 to
// MaxToken bytes. Only a master that takes writes answers; a replica, or a master that lost its replicas, returns an error.
func (s *Scripts) Get(ctx context.Context, key, token string) (GetReply, error) {
	keys, args, err := s.getCall(key, token)
	if err != nil {
		return GetReply{}, err
	}
	v, err := s.get.Run(ctx, s.rdb, keys, args...).Result()
	return s.getResult(key, v, err)
}

func getReply(f []string) (r GetReply, ok bool) {
	var err error
	switch {
	case len(f) == 5 && f[0] == "HIT":
		r = GetReply{Status: GetHit, Value: []byte(f[2]), Tags: splitTags(f[3]), Root: f[4]}
		r.Version, err = strconv.ParseInt(f[1], 10, 64)
	case len(f) == 3 && f[0] == "LEASE":
		r = GetReply{Status: GetLease, Root: f[2]}
		r.Floor, err = strconv.ParseInt(f[1], 10, 64)
	case len(f) == 2 && f[0] == "BUSY":
		r.Status = GetBusy
		r.Floor, err = strconv.ParseInt(f[1], 10, 64)
	case len(f) == 1 && f[0] == "NOLANE":
		r.Status = GetNoLane
	}
	return r, err == nil && r.Status != 0
}

// Fill stores a value under the lease that Get returned.
func (s *Scripts) Fill(ctx context.Context, r FillRequest) (FillStatus, error) {
	keys, args, err := s.fillCall(r)
	if err != nil {
		return 0, err
	}
	v, err := s.fill.Run(ctx, s.rdb, keys, args...).Result()
	return s.fillResult(r.Key, v, err)
}

// fillCall returns the keys and the arguments of the fill script.
func (s *Scripts) fillCall(r FillRequest) (keys []string, args []any, err error) {
	n := s.Of(r.Key)
	if err := r.Check(); err != nil {
		return nil, nil, fmt.Errorf("fill in lane %d: %w", n, err)
	}
	from := "s"
	if r.Primary {
		from = "p"
	}
	k := s.lanes[n]
	return []string{k.Value(r.Key), k.Meta, k.Tags}, []any{
		r.Token, r.Version, r.Value, max(cmp.Or(r.TTL, DefaultValueTTL).Milliseconds(), 1), s.cfg.Hold.Milliseconds(),
		from, strings.Join(r.Tags, "\n"),
	}, nil
}

func (s *Scripts) fillResult(key string, v any, err error) (FillStatus, error) {
	if err == nil {
		switch v {
		case "OK":
			return FillOK, nil
		case "LOST":
			return FillLost, nil
		case "STALE":
			return FillStale, nil
		case "PRIMARY":
			return FillPrimary, nil
		}
		err = ErrReply
	}
	return 0, fmt.Errorf("fill in lane %d: %w", s.Of(key), err)
}

// Check reports what Fill refuses without asking Redis; errors wrap ErrFill.
func (r FillRequest) Check() error {
	if r.Token == "" || len(r.Token) > MaxToken {
		return fmt.Errorf("token of %d bytes: %w", len(r.Token), ErrFill)
	}
	if r.Version < 0 || r.Version >= PrimaryOnly {
		return fmt.Errorf("version out of range: %w", ErrFill)
	}
	if len(r.Tags) > MaxEntryTags {
		return fmt.Errorf("%d tags, at most %d: %w", len(r.Tags), MaxEntryTags, ErrFill)
	}
	for i, t := range r.Tags {
		if t == "" || len(t) > MaxKeyBytes || strings.Contains(t, "\n") {
			return fmt.Errorf("tag %d is empty, too long or has a line break: %w", i, ErrFill)
		}
	}
	return nil
}
