package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// answers makes the problems that routes have in common.
type answers struct {
	datasets *schemas.Datasets
	health   *health
	log      *slog.Logger
}

// fail makes an HTTP problem of an error. What is the caller's fault is reported to the caller; a server that is away
// is 503, never 500, and its words stay in the log.
func (an *answers) fail(ctx context.Context, what string, err error) error {
	var status huma.StatusError
	var broken *tables.DatasetError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		return err
	case errors.Is(err, schemas.ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.As(err, &broken):
		return huma.Error409Conflict(broken.Error())
	case noTopic(err):
		return huma.Error409Conflict("the dataset's topic does not exist; make it with `freshet migrate datasets`, or start the capture tool that fills it")
	case errors.Is(err, context.DeadlineExceeded):
		return huma.Error504GatewayTimeout(what + ": no answer in time" + an.sickText(ctx))
	}
	an.log.WarnContext(ctx, "request cannot be served", "request_id", gate.RequestID(ctx), "step", what, "error", err)
	return huma.NewError(http.StatusServiceUnavailable, what+": a server is away or refuses the request"+an.sickText(ctx)+"; the log of the admin API has the error")
}

// sickText lists the servers that do not answer, for those who may read them in /readyz; "" if all answer.
func (an *answers) sickText(ctx context.Context) string {
	if !access.PrincipalOf(ctx).Role.May(access.Viewer) {
		return ""
	}
	sick := an.health.sickServers(context.WithoutCancel(ctx)) // ctx has often ended when a server was too slow
	if len(sick) == 0 {
		return ""
	}
	return ": " + strings.Join(sick, ", ")
}

func noTopic(err error) bool { return errors.Is(err, kafkalog.ErrNoTopic) }

// dataset returns a declared dataset or the problem.
func (an *answers) dataset(name string) (*schemas.Dataset, error) {
	d, ok := an.datasets.Get(name)
	if !ok {
		return nil, huma.Error404NotFound("dataset is not declared; GET /v1/datasets lists those that are")
	}
	return d, nil
}

// problem is an RFC 9457 problem with its code, and the id by which the log has the request.
type problem struct {
	*huma.ErrorModel
	Code      string `json:"code"`
	RequestID string `json:"request_id,omitempty"`
}

// finishProblem takes what was sent out of a problem's details, since an answer is logged and shown in more places than a request, and
// adds the request's id.
func finishProblem(ctx huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	for _, detail := range model.Errors {
		detail.Value = nil
	}
	return problem{model, gate.Code(model.Status), gate.RequestID(ctx.Context())}, nil
}
