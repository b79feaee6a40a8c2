package console

import (
	"net/http"
	"strings"

	"github.com/freshet/freshet/internal/admin/access"
)

// signInPage is what the form for a token shows.
type signInPage struct {
	Back  string
	Wrong string
}

// showSignIn asks for a token.
func (c *Console) showSignIn(w http.ResponseWriter, r *http.Request) {
	back := local(r.URL.Query().Get("back"))
	if _, ok := c.keeper.Find(w, r); ok {
		c.redirect(w, back)
		return
	}
	c.askToken(w, r, http.StatusOK, signInPage{Back: back})
}

// signIn checks the token. Its form has no secret, since there is no session yet; the server's check of origins refuses it from other sites.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	prefs := preferencesOf(r)
	say := func(status int, key string) {
		c.askToken(w, r, status, signInPage{Back: local(r.PostFormValue("back")), Wrong: c.texts.Text(prefs.Language, key)})
	}
	token := strings.TrimSpace(r.PostFormValue("token"))
	// The API's gate counts wrong tokens, so that they cannot be guessed here faster than there.
	a := client{api: c.cfg.API, authorization: "Bearer " + token, host: r.Host, remote: r.RemoteAddr}
	var problem *APIError
	if err := a.get(r.Context(), "/openapi.json", nil, nil); err != nil {
		problem, _ = err.(*APIError) //nolint:errorlint // get returns it unwrapped
	}
	switch {
	case problem != nil && problem.Status == http.StatusTooManyRequests:
		say(problem.Status, "Too many wrong tokens were tried. Wait a second.")
		return
	case problem != nil && problem.Status == http.StatusForbidden:
		say(problem.Status, "This token may not look at pages. Use one of a viewer, operator or admin.")
		return
	case problem != nil:
		say(http.StatusUnauthorized, "This token is not known.")
		return
	}
	if who, ok := c.keeper.SignIn(w, r, token); !ok || !who.Role.May(access.Viewer) {
		say(http.StatusUnauthorized, "This token is not known.")
		return
	}
	c.redirect(w, local(r.PostFormValue("back")))
}

// signOut ends the session in this browser.
func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	who, ok := c.keeper.Find(w, r)
	if ok && !who.Genuine(r.PostFormValue("_form")) {
		http.Error(w, "this form is not from your session", http.StatusForbidden)
		return
	}
	c.keeper.SignOut(w, r)
	c.redirect(w, "/sign-in")
}

func (c *Console) askToken(w http.ResponseWriter, r *http.Request, status int, data signInPage) {
	prefs := preferencesOf(r)
	c.write(w, r, status, &page{Name: "sign-in", Title: c.texts.Text(prefs.Language, "Sign in"), Path: "/sign-in", Prefs: prefs, Version: c.cfg.Version, Data: data})
}
