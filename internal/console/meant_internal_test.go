package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console/session"
)

// visitTo is a visit of an address by an admin, with an API that gives one answer.
func visitTo(address, answer string) *visit {
	return &visit{
		Request: httptest.NewRequest(http.MethodGet, address, nil), who: &session.Session{Principal: access.Principal{Name: "ada", Role: access.Admin}},
		client: client{api: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })},
		text:   func(key string, _ ...any) string { return key },
	}
}

// The node that the address names is shown, also where the list is in another order than the API's.
func TestTheNodeThatIsMeant(t *testing.T) {
	data, err := loadNodes(visitTo("/nodes?id=a", `{"nodes":[{"id":"a"},{"id":"b","silence_seconds":60}]}`))
	p, ok := data.(nodesPage)
	if err != nil || !ok || p.One == nil || p.One.ID != "a" || p.Nodes[0].ID != "b" {
		t.Errorf("%+v, %v", data, err)
	}
}

// A partition whose records an open transaction delays is behind as well.
func TestHeldRecordsAreBehind(t *testing.T) {
	data, err := loadLag(visitTo("/lag?behind=1", `{"items":[{"dataset":"users","held":3,"waits":{"code":"transaction"}},{"dataset":"users"},{"dataset":"users","waits":{"code":"paused"}}]}`))
	p, ok := data.(lagPage)
	if err != nil || !ok || p.Total != 1 {
		t.Errorf("%+v, %v", data, err)
	}
}

// What a form did replaces what the form before did.
func TestDoneIsTheLast(t *testing.T) {
	if got := withDone("/deadletters?dataset=a%26b&done=redriven", "discarded"); got != "/deadletters?dataset=a%26b&done=discarded" {
		t.Error(got)
	}
	if got := withDone("https://elsewhere.example.com/", "discarded"); got != "/?done=discarded" {
		t.Error(got)
	}
}

// A sentence that begins with a name leaves the name as it is.
func TestSentenceKeepsNames(t *testing.T) {
	p := &page{Prefs: preferences{Language: "en"}}
	if got := p.Sentence(api.Problem{Code: "stale_records", Sentence: "users/1 is stale in the shared tier for 3 s"}); !strings.HasPrefix(got, "users/1") {
		t.Error(got)
	}
}
