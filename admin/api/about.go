package api

import "time"

// Setting is one setting of the process as it is in force. Secrets are masked.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value" doc:"*** for a secret"`
	Origin string `json:"origin" doc:"default, a file, an environment variable or a flag"`
}

// About is the process that answers.
type About struct {
	Version   string    `json:"version"`
	Namespace string    `json:"namespace"`
	Group     string    `json:"group"`
	Began     time.Time `json:"began"`
	Settings  []Setting `json:"settings" doc:"in the order of docs/configuration.md"`
}

// Finding is one thing that the doctor found.
type Finding struct {
	// Name identifies the kind of finding; it does not change between releases.
	Name string `json:"name"`
	// Bad findings break a promise or stop the flow; the others are worth a look.
	Bad bool `json:"bad"`
	// Where identifies the dataset, topic, lane or node.
	Where   string `json:"where,omitempty"`
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
}

// Diagnosis is what one run of the doctor found.
type Diagnosis struct {
	Healthy  bool      `json:"healthy" doc:"nothing is bad"`
	Findings []Finding `json:"findings" doc:"bad ones first"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
}
