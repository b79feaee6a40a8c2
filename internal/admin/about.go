package admin

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/admin/api"
)

// doctorWait bounds a run of the doctor: the request is answered before it is cut off.
const doctorWait = 27 * time.Second

// about shows the process itself, and runs the doctor.
type about struct {
	version, namespace, group string
	began                     time.Time
	settings                  func() []api.Setting
	doctor                    func(context.Context, bool) ([]api.Finding, error)
	answers                   *answers
	running                   sync.Mutex // held by the one run of the doctor
}

func (ab *about) routes(on huma.API) {
	huma.Register(on, huma.Operation{
		Method: http.MethodGet, Path: "/v1/settings", OperationID: "list-settings", Summary: "The process: version, and every setting in force with its origin",
		Description: "Secrets are masked.",
	}, ab.listSettings)
	huma.Register(on, huma.Operation{
		Method: http.MethodPost, Path: "/v1/doctor", OperationID: "run-doctor", Summary: "Look at every hop, and send a canary through them all",
		Description: "It is what freshet doctor does, within 27 s. One run at a time: another one is refused with 409.",
	}, ab.runDoctor)
}

type aboutOutput struct{ Body api.About }

func (ab *about) listSettings(context.Context, *empty) (*aboutOutput, error) {
	out := &aboutOutput{api.About{Version: ab.version, Namespace: ab.namespace, Group: ab.group, Began: ab.began, Settings: []api.Setting{}}}
	if ab.settings != nil {
		out.Body.Settings = ab.settings()
	}
	return out, nil
}

type doctorInput struct {
	Body struct {
		NoCanary bool `json:"no_canary,omitempty" doc:"look only, send nothing"`
	}
}

type doctorOutput struct{ Body api.Diagnosis }

func (ab *about) runDoctor(ctx context.Context, in *doctorInput) (*doctorOutput, error) {
	if ab.doctor == nil {
		return nil, huma.Error404NotFound("this process has no doctor; run `freshet doctor`")
	}
	if !ab.running.TryLock() {
		return nil, huma.Error409Conflict("the doctor is running already; wait until it is done")
	}
	defer ab.running.Unlock()
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	out := &doctorOutput{api.Diagnosis{Began: time.Now().UTC()}}
	found, err := ab.doctor(ctx, !in.Body.NoCanary)
	if err != nil {
		return nil, ab.answers.fail(ctx, "run the doctor", err)
	}
	out.Body.Seconds = time.Since(out.Body.Began).Seconds()
	out.Body.Findings = append([]api.Finding{}, found...)
	out.Body.Healthy = !slices.ContainsFunc(found, func(f api.Finding) bool { return f.Bad })
	return out, nil
}
