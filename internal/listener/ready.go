package listener

import (
	"encoding/json"
	"net/http"
)

// Readiness is what a process says in /readyz.
type Readiness struct {
	// Draining: the process was asked to end, and only finishes what is under way.
	Draining bool
	// NotReady is why the process cannot work, Degraded why part of its work stops, which no other process would do in its place.
	// Warnings are what needs attention although everything works. Each is one sentence.
	NotReady, Degraded, Warnings []string
}

// Status returns the word for the readiness and the HTTP status that goes with it.
func (r Readiness) Status() (word string, code int) {
	switch {
	case r.Draining:
		return "draining", http.StatusServiceUnavailable
	case len(r.NotReady) > 0:
		return "not ready", http.StatusServiceUnavailable
	case len(r.Degraded) > 0:
		return "degraded", http.StatusOK
	}
	return "ok", http.StatusOK
}

// Why lists the reasons of Status, those that keep the process from working first.
func (r Readiness) Why() []string {
	var why []string
	if r.Draining {
		why = append(why, "draining: this process ends")
	}
	return append(append(why, r.NotReady...), r.Degraded...)
}

// Answer writes the readiness as JSON. The reasons hold names of hosts, topics and datasets, so they are left out unless reasons
// is true.
func (r Readiness) Answer(w http.ResponseWriter, reasons bool) {
	word, code := r.Status()
	body := struct {
		Status   string   `json:"status"`
		Why      []string `json:"why,omitempty"`
		Warnings []string `json:"warnings,omitempty"`
	}{Status: word}
	if reasons {
		body.Why, body.Warnings = r.Why(), r.Warnings
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a prober that is gone needs no answer
}
