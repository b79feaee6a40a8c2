// Package session knows who looks at the console: by the API token they signed in with, by the one that a proxy adds, or because
// only this machine is served.
package session

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/admin/access"
)

const (
	// Life is how long a person stays signed in.
	Life = 12 * time.Hour

	signedCookie = "freshet_session"
	formCookie   = "freshet_form"
	// FormField is the field of a form that must hold Session.Form.
	FormField = "_form"
)

// Keeper keeps people signed in. The state is in their cookies, sealed by their tokens, so every admin server that has the same file of
// tokens knows them, and removing a token ends its sessions.
type Keeper struct {
	// Tokens is nil where the API has no authentication.
	Tokens *access.TokenFile
	// Path is where the console is, "/" for the root; cookies go nowhere else.
	Path string
}

// Session is one person's.
type Session struct {
	access.Principal
	// Authorization is what requests to the API carry for this person; "" without authentication.
	Authorization string
	// Form must come back with each form: a page of another site does not know it.
	Form string
	// Signed: the person signed in here, and so can sign out.
	Signed bool
}

// sealed is the content of a session's cookie.
type sealed struct {
	Token string    `json:"t"`
	Form  string    `json:"f"`
	Until time.Time `json:"u"`
}

// Find returns the session of a request, and false if its sender has to sign in. It may set a cookie.
func (k *Keeper) Find(w http.ResponseWriter, r *http.Request) (*Session, bool) {
	if k.Tokens == nil {
		return &Session{Principal: access.Principal{Name: "local", Role: access.Admin}, Form: k.formSecret(w, r)}, true
	}
	if who, ok := k.Tokens.Bearer(r); ok {
		return &Session{Principal: who, Authorization: r.Header.Get("Authorization"), Form: k.formSecret(w, r)}, true
	}
	c, err := r.Cookie(signedCookie)
	if err != nil {
		return nil, false
	}
	in, ok := k.open(c.Value)
	if !ok {
		return nil, false
	}
	who, ok := k.Tokens.Find(in.Token)
	return &Session{Principal: who, Authorization: "Bearer " + in.Token, Form: in.Form, Signed: true}, ok
}

// SignIn sets the cookie of who bears the token, and reports false if no one does.
func (k *Keeper) SignIn(w http.ResponseWriter, r *http.Request, token string) (access.Principal, bool) {
	if k.Tokens == nil {
		return access.Principal{}, false
	}
	who, ok := k.Tokens.Find(token)
	if !ok {
		return who, false
	}
	aead, ok := k.Tokens.Cipher(who.Name)
	if !ok {
		return who, false
	}
	text, err := json.Marshal(sealed{Token: token, Form: rand.Text(), Until: time.Now().Add(Life)})
	if err != nil {
		return who, false
	}
	name := base64.RawURLEncoding.EncodeToString([]byte(who.Name))
	value := name + "." + base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, text, []byte(who.Name))) //nolint:gosec // the cipher makes the nonce itself
	k.set(w, r, signedCookie, value, int(Life/time.Second))
	return who, true
}

// SignOut removes the cookie.
func (k *Keeper) SignOut(w http.ResponseWriter, r *http.Request) { k.set(w, r, signedCookie, "", -1) }

// Genuine reports whether a form was made for this session.
func (s *Session) Genuine(field string) bool {
	return s.Form != "" && subtle.ConstantTimeCompare([]byte(field), []byte(s.Form)) == 1
}

func (k *Keeper) open(value string) (sealed, bool) {
	var in sealed
	name64, text64, _ := strings.Cut(value, ".")
	name, err := base64.RawURLEncoding.DecodeString(name64)
	if err != nil {
		return in, false
	}
	text, err := base64.RawURLEncoding.DecodeString(text64)
	if err != nil {
		return in, false
	}
	aead, ok := k.Tokens.Cipher(string(name))
	if !ok {
		return in, false
	}
	plain, err := aead.Open(nil, nil, text, name)
	if err != nil || json.Unmarshal(plain, &in) != nil {
		return in, false
	}
	return in, time.Now().Before(in.Until)
}

// formSecret returns the secret of forms where no session has one, and sets its cookie if it is not there yet.
func (k *Keeper) formSecret(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(formCookie); err == nil && len(c.Value) >= len(rand.Text()) {
		return c.Value
	}
	secret := rand.Text()
	k.set(w, r, formCookie, secret, 0)
	return secret
}

func (k *Keeper) set(w http.ResponseWriter, r *http.Request, name, value string, age int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // plain HTTP is served on loopback, or behind a proxy that says https
		Name: name, Value: value, Path: k.Path, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	})
}
