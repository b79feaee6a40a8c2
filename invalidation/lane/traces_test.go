package lane_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/invalidation/lane"
)

// What only traces need never makes an entry malformed, since that would flush the lane.
func TestTracesOfAPayload(t *testing.T) {
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	text := string(lane.AppendPayload(nil, &lane.Payload{Source: "a/b/0", From: 1, To: 2, Items: []lane.Item{{Key: "k"}}, Traces: []string{parent, "x"}}))
	p, err := lane.ParsePayload(text)
	if err != nil || len(p.Traces) != 2 || p.Traces[0] != parent || len(p.Items) != 1 {
		t.Fatalf("%s: %+v, %v", text, p, err)
	}
	for tp, want := range map[string]int{
		`"no list"`: 0, `[1,{"a":[]},"x"]`: 1, `null`: 0, `[` + strings.Repeat(`"x",`, 200) + `"x"]`: lane.MaxTraces,
	} {
		p, err := lane.ParsePayload(fmt.Sprintf(`{"v":1,"k":["a"],"n":[0],"tp":%s}`, tp))
		if err != nil || len(p.Traces) != want {
			t.Errorf("%s: %d traces, %v", tp, len(p.Traces), err)
		}
	}
}
