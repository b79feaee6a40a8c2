package readyours_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/freshet/freshet/invalidation/readyours"
	"github.com/freshet/freshet/schemas"
)

// exampleNode stands for an *invalidation.Node.
type exampleNode struct{}

func (exampleNode) WaitFor(_ context.Context, token schemas.Token) error {
	fmt.Println("waits for", token.Offsets())
	return nil
}

// A handler that publishes adds its token; the client sends it with the next request, which may reach another process.
func Example() {
	tokens, err := readyours.New(readyours.Config{Waiter: exampleNode{}})
	if err != nil {
		panic(err)
	}
	handler := tokens.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			token := schemas.NewToken("freshet.users/kR3/0", 7) // what Publish returned
			if err := readyours.Add(r.Context(), token); err != nil {
				fmt.Println(err)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/users/42", nil))

	next := httptest.NewRequest(http.MethodGet, "/users/42", nil)
	next.Header.Set(readyours.Header, answer.Header().Get(readyours.Header))
	handler.ServeHTTP(httptest.NewRecorder(), next)
	// Output: waits for map[freshet.users/kR3/0:7]
}
