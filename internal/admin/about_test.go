package admin_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
)

// Settings are for the role admin alone.
func TestSettings(t *testing.T) {
	want := api.Setting{Key: "mysql.dsn", Value: "***", Origin: "environment"}
	r := newRig(t, func(c *admin.Config) { c.Settings = func() []api.Setting { return []api.Setting{want} } })
	for _, role := range []string{"viewer", "operator", "publisher", "follower"} {
		r.want(http.StatusForbidden, role, http.MethodGet, "/v1/settings", nil)
	}
	var got api.About
	r.want(http.StatusOK, "admin", http.MethodGet, "/v1/settings", nil).into(t, &got)
	if len(got.Settings) != 1 || got.Settings[0] != want || got.Version != "test" || got.Namespace != r.cfg.Namespace || got.Began.IsZero() {
		t.Errorf("%+v", got)
	}
}

// The doctor runs once at a time, with a deadline and for operators; it needs no database.
func TestDoctorRunsOnceAtATime(t *testing.T) {
	begun, end := make(chan bool, 1), make(chan error)
	r := newRig(t, func(c *admin.Config) {
		c.Replica = nil
		c.Doctor = func(ctx context.Context, canary bool) ([]api.Finding, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the run has no deadline")
			}
			begun <- canary
			if err := <-end; err != nil {
				return nil, err
			}
			return []api.Finding{{Name: "no-worker", Bad: true, Problem: "none is alive", Fix: "start one"}}, nil
		}
	})
	r.want(http.StatusForbidden, "viewer", http.MethodPost, "/v1/doctor", "{}")
	first := make(chan answer, 1)
	go func() { first <- r.do("operator", http.MethodPost, "/v1/doctor", `{"no_canary":true}`) }()
	if <-begun {
		t.Error("a canary is sent although it was not wanted")
	}
	r.want(http.StatusConflict, "admin", http.MethodPost, "/v1/doctor", "{}")
	end <- nil
	var got api.Diagnosis
	a := <-first
	a.into(t, &got)
	if a.status != http.StatusOK || got.Healthy || len(got.Findings) != 1 || got.Findings[0].Name != "no-worker" {
		t.Errorf("%d %+v", a.status, got)
	}
	go func() { first <- r.do("operator", http.MethodPost, "/v1/doctor", "{}") }()
	if !<-begun {
		t.Error("no canary is sent")
	}
	end <- errors.New("no datasets")
	if a = <-first; a.status != http.StatusServiceUnavailable {
		t.Errorf("a failed run: %d", a.status)
	}
}

// A process without a doctor says so.
func TestNoDoctor(t *testing.T) {
	r := newRig(t, nil)
	r.want(http.StatusNotFound, "operator", http.MethodPost, "/v1/doctor", "{}")
}
