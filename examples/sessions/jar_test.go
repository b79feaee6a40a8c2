package main

import (
	"net/http"
	"net/url"
)

// sessionOnly is the jar of a client that keeps no token cookie.
type sessionOnly struct{ http.CookieJar }

func (j sessionOnly) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		if c.Name == sessionCookie {
			j.CookieJar.SetCookies(u, []*http.Cookie{c})
		}
	}
}

// stubborn is the jar of a client that does not let its session's cookie be removed.
type stubborn struct{ http.CookieJar }

func (j stubborn) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		if c.Name != sessionCookie {
			j.CookieJar.SetCookies(u, []*http.Cookie{c})
		}
	}
}
