package session_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console/session"
)

// file writes a file of tokens with one of each role, and returns the tokens by name.
func file(t *testing.T, names ...string) (path string, tokens map[string]string) {
	t.Helper()
	tokens = map[string]string{}
	var lines []string
	for _, name := range names {
		token, line, err := access.NewToken(name, access.Operator)
		if err != nil {
			t.Fatal(err)
		}
		tokens[name], lines = token, append(lines, line)
	}
	path = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, tokens
}

func keeper(t *testing.T, path string) *session.Keeper {
	t.Helper()
	tokens, err := access.OpenTokens(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &session.Keeper{Tokens: tokens, Path: "/"}
}

func signIn(t *testing.T, k *session.Keeper, token string) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	if _, ok := k.SignIn(w, httptest.NewRequest(http.MethodPost, "/sign-in", nil), token); !ok {
		t.Fatal("the token is not known")
	}
	return w.Result().Cookies()[0]
}

func find(k *session.Keeper, c *http.Cookie) (*session.Session, bool) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(c)
	return k.Find(httptest.NewRecorder(), r)
}

// A cookie works at each server that has the file of tokens, hides the token, and ends with it.
func TestSessionIsTheTokens(t *testing.T) {
	path, tokens := file(t, "ada", "bob")
	c := signIn(t, keeper(t, path), tokens["ada"])
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure {
		t.Errorf("cookie of plain HTTP: HttpOnly %v, SameSite %v, Secure %v", c.HttpOnly, c.SameSite, c.Secure)
	}
	if strings.Contains(c.Value, tokens["ada"]) {
		t.Error("the cookie shows the token")
	}
	s, ok := find(keeper(t, path), c)
	if !ok || s.Name != "ada" || s.Role != access.Operator || s.Authorization != "Bearer "+tokens["ada"] || !s.Signed {
		t.Fatalf("another server with the same file finds %+v, %v", s, ok)
	}
	if !s.Genuine(s.Form) || s.Genuine("") || s.Genuine("x") {
		t.Error("the form's secret is not what makes a form genuine")
	}
	other, _ := file(t, "ada") // the same name, another token
	if s, ok := find(keeper(t, other), c); ok {
		t.Errorf("a cookie of a removed token finds %+v", s)
	}
}

// A cookie that was changed, or that says another name, opens nothing.
func TestForgedCookies(t *testing.T) {
	path, tokens := file(t, "ada", "bob")
	k := keeper(t, path)
	ada, bob := signIn(t, k, tokens["ada"]), signIn(t, k, tokens["bob"])
	_, sealed, _ := strings.Cut(ada.Value, ".")
	name, _, _ := strings.Cut(bob.Value, ".")
	flipped := "A" + sealed[1:]
	if sealed[0] == 'A' {
		flipped = "B" + sealed[1:]
	}
	nameOfAda, _, _ := strings.Cut(ada.Value, ".")
	for what, value := range map[string]string{
		"of another name": name + "." + sealed, "changed": nameOfAda + "." + flipped, "empty": "", "without a seal": name, "no base64": "!.!", "short": name + ".QQ",
	} {
		if s, ok := find(k, &http.Cookie{Name: ada.Name, Value: value}); ok {
			t.Errorf("a cookie that is %s finds %+v", what, s)
		}
	}
}

// Without authentication each browser has a secret for its forms; a proxy's token needs no cookie of a session.
func TestWithoutSignIn(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	open := &session.Keeper{Path: "/base/"}
	s, ok := open.Find(w, r)
	if !ok || s.Role != access.Admin || s.Authorization != "" || s.Signed {
		t.Fatalf("without tokens: %+v, %v", s, ok)
	}
	c := w.Result().Cookies()[0]
	if c.Path != "/base/" {
		t.Errorf("the cookie's path is %s", c.Path)
	}
	if again, _ := find(open, c); again == nil || again.Form != s.Form {
		t.Error("the next page has another secret, so a form of this one fails")
	}
	path, tokens := file(t, "proxy")
	r.Header.Set("Authorization", "Bearer "+tokens["proxy"])
	if s, ok := keeper(t, path).Find(httptest.NewRecorder(), r); !ok || s.Name != "proxy" || s.Form == "" || s.Signed {
		t.Errorf("a proxy's token finds %+v, %v", s, ok)
	}
}
