package schemas_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/schemas"
)

func TestTokenText(t *testing.T) {
	tok := schemas.NewToken("users/kR3/3", 1099).Merge(schemas.NewToken("a/b/0", 0))
	text, err := base64.RawURLEncoding.DecodeString(tok.String())
	if want := `{"v":1,"s":{"a/b/0":0,"users/kR3/3":1099}}`; err != nil || string(text) != want {
		t.Errorf("got %q, %v; want %q", text, err, want)
	}
	var zero schemas.Token
	if back, err := schemas.ParseToken(zero.String()); err != nil || !back.IsZero() {
		t.Errorf("zero token: %v, %v", back, err)
	}
	for _, tok := range []schemas.Token{schemas.NewToken("", 1), schemas.NewToken("a", -1)} {
		if !tok.IsZero() {
			t.Errorf("token of nothing waits: %v", tok.Offsets())
		}
	}
	var doc struct{ T schemas.Token }
	out, err := json.Marshal(struct{ T schemas.Token }{tok})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &doc); err != nil || !cmp.Equal(doc.T.Offsets(), tok.Offsets()) {
		t.Errorf("through JSON: %v, %v", doc.T.Offsets(), err)
	}
}

func TestTokenMerge(t *testing.T) {
	a := schemas.NewToken("x", 5)
	b := a.Merge(schemas.NewToken("x", 3)).Merge(schemas.NewToken("y", 1)).Merge(schemas.Token{})
	if diff := cmp.Diff(map[string]int64{"x": 5, "y": 1}, b.Offsets()); diff != "" {
		t.Error(diff)
	}
	if c := (schemas.Token{}).Merge(schemas.NewToken("x", 3)).Merge(a); c.Offsets()["x"] != 5 {
		t.Errorf("got %v", c.Offsets())
	}
	if diff := cmp.Diff(map[string]int64{"x": 5}, a.Offsets()); diff != "" {
		t.Error("Merge changed its receiver: " + diff)
	}
	b.Offsets()["x"] = 0
	if b.Offsets()["x"] != 5 {
		t.Error("Offsets is not a copy")
	}
}

func TestTokenRefuses(t *testing.T) {
	enc := base64.RawURLEncoding.EncodeToString
	for _, s := range []string{
		"", "!", "e30=", enc([]byte(`{}`)), enc([]byte(`[]`)), enc([]byte(`{"v":2,"s":{}}`)), enc([]byte(`{"v":1}`)),
		enc([]byte(`{"v":1,"s":{"a":-1}}`)), enc([]byte(`{"v":1,"s":{"a":1.5}}`)), enc([]byte(`{"v":1,"s":{"a":"1"}}`)),
		enc([]byte(`{"v":1,"s":{"a":9007199254740992}}`)), enc([]byte(`{"v":1,"s":{"":1}}`)), enc([]byte(`{"v":1,"s":{"a":1,"a":2}}`)),
		enc([]byte(`{"v":1,"s":{"` + strings.Repeat("a", 301) + `":1}}`)), strings.Repeat("A", 70_000),
		enc([]byte(`{"v":1,"s":{"a":1}}x`)),
	} {
		if tok, err := schemas.ParseToken(s); !errors.Is(err, schemas.ErrInvalid) {
			t.Errorf("%.40q: got %v, %v", s, tok.Offsets(), err)
		}
	}
}

func TestTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tok schemas.Token
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			source := rapid.StringN(1, 70, 300).Draw(t, "source")
			tok = tok.Merge(schemas.NewToken(source, rapid.Int64Range(0, 1<<53-1).Draw(t, "offset")))
		}
		back, err := schemas.ParseToken(tok.String())
		if err != nil || !cmp.Equal(back.Offsets(), tok.Offsets()) {
			t.Fatalf("got %v, %v; want %v", back.Offsets(), err, tok.Offsets())
		}
	})
}

func TestSource(t *testing.T) {
	s := schemas.SourceName("freshet.users", "kR3_-bcdefghijklmnopqr", 12)
	if s != "freshet.users/kR3_-bcdefghijklmnopqr/12" {
		t.Fatalf("got %q", s)
	}
	topic, id, partition, err := schemas.ParseSource(s)
	if err != nil || topic != "freshet.users" || id != "kR3_-bcdefghijklmnopqr" || partition != 12 {
		t.Errorf("got %q %q %d %v", topic, id, partition, err)
	}
	for _, s := range []string{
		"", "a/b", "a/b/c", "a/b/01", "a/b/-1", "a/b/+1", "a/b/2147483648", "/b/1", "a//1", "a/b/1/2", "a b/c/1", "a/=/1", "../b/1/",
		strings.Repeat("a", 250) + "/b/1", "a/" + strings.Repeat("b", 300) + "/1",
	} {
		if _, _, _, err := schemas.ParseSource(s); !errors.Is(err, schemas.ErrInvalid) {
			t.Errorf("%.40q: got %v", s, err)
		}
	}
}
