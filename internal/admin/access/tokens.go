package access

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/livefile"
)

const (
	tokenPrefix = "frt_"
	hashPrefix  = "sha256:"
	// RereadEvery is how long a changed file of tokens may go unnoticed.
	RereadEvery = time.Second
	maxNameLen  = 64
)

// ErrTokens is returned, wrapped, for a file of tokens that cannot be used.
var ErrTokens = errors.New("file of tokens")

// Token is one line of a file of tokens: who bears it and what for. The token itself is nowhere.
type Token struct {
	Principal
	hash [sha256.Size]byte
}

// NewToken makes a token and the line by which a file of tokens knows it. The token is shown once and kept nowhere.
func NewToken(name string, role Role) (token, line string, err error) {
	if err := checkName(name); err != nil {
		return "", "", err
	}
	if role.String() == "none" {
		return "", "", fmt.Errorf("%w: no role is given", ErrTokens)
	}
	token = tokenPrefix + rand.Text() + rand.Text()
	h := sha256.Sum256([]byte(token))
	return token, fmt.Sprintf("%s %s%x %s", role, hashPrefix, h, name), nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxNameLen {
		return fmt.Errorf("%w: a name has 1 to %d characters", ErrTokens, maxNameLen)
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || r == '#' {
			return fmt.Errorf("%w: a name has no spaces, control characters or #", ErrTokens)
		}
	}
	return nil
}

// ParseTokens reads the text of a file of tokens: a line per token, "role sha256:hex name"; empty lines and those that
// begin with # do not count. Errors wrap ErrTokens and name the line, never its content.
func ParseTokens(text []byte) ([]Token, error) {
	var out []Token
	names := map[string]bool{}
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		t, err := parseToken(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrTokens, n, err)
		}
		if names[t.Name] {
			return nil, fmt.Errorf("%w: line %d: a name is given twice; audit could not tell the two apart", ErrTokens, n)
		}
		names[t.Name] = true
		out = append(out, t)
	}
	if sc.Err() != nil {
		return nil, fmt.Errorf("%w: a line is too long", ErrTokens)
	}
	return out, nil
}

func parseToken(line string) (Token, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return Token{}, errors.New("wants three words: role, sha256:…, name; `freshet admin token` prints such a line")
	}
	var t Token
	role, err := ParseRole(f[0])
	if err != nil {
		return t, err
	}
	text, ok := strings.CutPrefix(f[1], hashPrefix)
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size {
		return t, errors.New("the second word is not sha256:… with 64 hex digits; never put the token itself here")
	}
	copy(t.hash[:], raw)
	t.Principal = Principal{Name: f[2], Role: role}
	return t, checkName(f[2])
}

// TokenFile knows the tokens of a file and notices within a second when its content changes. A changed file that cannot be
// used, or that holds no token, leaves the tokens unchanged; the files that it was opened with report that.
type TokenFile struct {
	file *livefile.Value[[]Token]
	now  func() time.Time

	mu     sync.Mutex // guards what follows
	tokens []Token
	looked time.Time
}

// OpenTokens reads a file of tokens, which becomes one of files; nil for a set of its own. Errors wrap ErrTokens.
func OpenTokens(path string, files *livefile.Set) (*TokenFile, error) {
	if files == nil {
		files = &livefile.Set{}
	}
	file, err := livefile.Open(files, "admin.tokens_file", func(contents [][]byte) ([]Token, error) {
		tokens, err := ParseTokens(contents[0])
		if err == nil && len(tokens) == 0 {
			err = fmt.Errorf("%w: %s holds no token; add a line that `freshet admin token` prints", ErrTokens, path)
		}
		return tokens, err
	}, path)
	if err != nil {
		if !errors.Is(err, ErrTokens) {
			err = fmt.Errorf("%w: %w", ErrTokens, err)
		}
		return nil, err
	}
	return &TokenFile{file: file, now: time.Now}, nil
}

// Find returns who bears the token. It takes as long for a wrong one as for a right one.
func (f *TokenFile) Find(token string) (Principal, bool) {
	h := sha256.Sum256([]byte(token))
	var who Principal
	found := false
	for _, t := range f.current() {
		if subtle.ConstantTimeCompare(h[:], t.hash[:]) == 1 {
			who, found = t.Principal, true
		}
	}
	return who, found
}

// Cipher returns the cipher of the token with this name, and false if there is none. What it sealed cannot be opened once the token is
// removed. Its key is made of the token's hash, so it proves nothing alone: who reads the file can seal, but does not know the token.
func (f *TokenFile) Cipher(name string) (cipher.AEAD, bool) {
	for _, t := range f.current() {
		if t.Name != name {
			continue
		}
		key, err := hkdf.Key(sha256.New, t.hash[:], nil, "freshet session", sha256.Size)
		if err != nil {
			return nil, false
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, false
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		return aead, err == nil
	}
	return nil, false
}

// Bearer finds who bears the token of the request's Authorization, if there is one and it is known.
func (f *TokenFile) Bearer(r *http.Request) (Principal, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Principal{}, false
	}
	return f.Find(strings.TrimSpace(token))
}

// current returns the tokens, which are at most RereadEvery old.
func (f *TokenFile) current() []Token {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); f.looked.IsZero() || now.Sub(f.looked) >= RereadEvery {
		f.looked, f.tokens = now, f.file.Get()
	}
	return f.tokens
}
