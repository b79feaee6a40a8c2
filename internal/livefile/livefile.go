// Package livefile reads files that may change while a process runs: secrets, certificates, keys and tokens. A file counts
// as changed when its content differs; neither its size nor its time is looked at.
package livefile

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Set holds the files of a process. The zero value works and logs nothing. It is safe for concurrent use.
type Set struct {
	mu     sync.Mutex
	log    *slog.Logger     // guarded by mu
	values map[string]value // by setting; guarded by mu
}

// value is a Value of any type.
type value interface {
	state() State
}

// State is what is known of the files of one setting.
type State struct {
	// Setting identifies the files: the name of the setting that has their path.
	Setting string
	// Err is why the files cannot be used as they are now; nil when they can. What they held before is in use meanwhile.
	Err error
}

// Log makes s log to log when files change, and when they cannot be used.
func (s *Set) Log(log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = log
}

// States looks at all files and returns their states, ordered by setting.
func (s *Set) States() []State {
	s.mu.Lock()
	values := make([]value, 0, len(s.values))
	for _, v := range s.values {
		values = append(values, v)
	}
	s.mu.Unlock()
	out := make([]State, 0, len(values))
	for _, v := range values {
		out = append(out, v.state())
	}
	slices.SortFunc(out, func(a, b State) int { return cmp.Compare(a.Setting, b.Setting) })
	return out
}

// Problems returns a sentence for each setting whose files cannot be used as they are now.
func (s *Set) Problems() []string {
	var out []string
	for _, st := range s.States() {
		if st.Err != nil {
			out = append(out, st.Err.Error()+"; the previous content stays in use")
		}
	}
	return out
}

func (s *Set) logger() *slog.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.log
}

// Value is what the files of one setting mean. It is safe for concurrent use.
type Value[T any] struct {
	set     *Set
	setting string
	paths   []string
	parse   func(contents [][]byte) (T, error)

	mu    sync.Mutex
	last  [][]byte // contents that were parsed last; guarded by mu
	bad   error    // what was wrong with them; guarded by mu
	err   error    // what is wrong now; guarded by mu
	value T        // of the last good contents; guarded by mu
}

// Open reads the files of a setting. parse gets the content of each path in turn; its errors must not quote contents. Opening
// a setting again returns the first Value if it has the same type.
func Open[T any](s *Set, setting string, parse func(contents [][]byte) (T, error), paths ...string) (*Value[T], error) {
	s.mu.Lock()
	known, ok := s.values[setting].(*Value[T])
	s.mu.Unlock()
	if ok && slices.Equal(known.paths, paths) {
		return known, nil
	}
	v := &Value[T]{set: s, setting: setting, paths: paths, parse: parse}
	if v.look(); v.err != nil {
		return nil, v.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string]value{}
	}
	s.values[setting] = v
	return v, nil
}

// Get looks at the files and returns what they mean, or what they last meant if they cannot be used now. That is logged once,
// and States has it.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	before := v.err
	changed := v.look()
	after, result := v.err, v.value
	v.mu.Unlock()
	switch {
	case after != nil && (before == nil || before.Error() != after.Error()):
		v.set.logger().Error("a file cannot be used; its previous content stays in use", "setting", v.setting, "error", after)
	case after == nil && (changed || before != nil):
		v.set.logger().Info("a changed file is in use", "setting", v.setting)
	}
	return result
}

func (v *Value[T]) state() State {
	v.Get()
	v.mu.Lock()
	defer v.mu.Unlock()
	return State{Setting: v.setting, Err: v.err}
}

// look reads the files and reports whether they have new contents.
func (v *Value[T]) look() (changed bool) {
	contents := make([][]byte, len(v.paths))
	for i, path := range v.paths {
		b, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			v.err = fmt.Errorf("%s: %w", v.setting, err)
			return false
		}
		contents[i] = b
	}
	if v.last == nil || !slices.EqualFunc(v.last, contents, bytes.Equal) {
		parsed, err := v.parse(contents)
		v.last, v.bad = contents, nil
		if err != nil {
			v.bad = fmt.Errorf("%s: %w", v.setting, err)
		} else {
			v.value, changed = parsed, true
		}
	}
	v.err = v.bad
	return changed
}
