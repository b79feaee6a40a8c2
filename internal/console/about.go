package console

import (
	"net/http"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func doctorScreen() *screen {
	return &screen{path: "/doctor", name: "doctor", title: "Doctor", nav: true, least: access.Operator, load: loadDoctor, act: actDoctor}
}

func aboutScreen() *screen {
	return &screen{path: "/about", name: "about", title: "About", nav: true, least: access.Viewer, load: loadAbout}
}

// doctorPage is what the doctor found; before it ran, nothing.
type doctorPage struct {
	*api.Diagnosis
}

func loadDoctor(*visit) (any, error) { return doctorPage{}, nil }

// actDoctor runs the doctor, which changes nothing but sends a canary.
func actDoctor(v *visit) (*outcome, error) {
	p := doctorPage{&api.Diagnosis{}}
	if err := v.post("/v1/doctor", struct{}{}, p.Diagnosis); err != nil {
		return nil, err
	}
	return &outcome{name: "doctor", data: p}, nil
}

// aboutPage is the process that answers. Its settings are for admins; others see the rest.
type aboutPage struct {
	api.About

	Hidden bool
}

func loadAbout(v *visit) (any, error) {
	p := aboutPage{Hidden: !v.may(access.Admin)}
	if p.Hidden {
		return p, nil
	}
	return p, v.get("/v1/settings", &p.About)
}

// passOn answers with what the API has at a path for programs, to a person who signed in here.
func (c *Console) passOn(w http.ResponseWriter, r *http.Request, path string) {
	v := c.visitOf(w, r)
	if v == nil {
		return
	}
	to := r.Clone(r.Context())
	to.URL.Path, to.URL.RawPath = path, ""
	if v.who.Authorization != "" {
		to.Header.Set("Authorization", v.who.Authorization)
	}
	c.cfg.API.ServeHTTP(w, to)
}
