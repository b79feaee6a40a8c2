package testenv

import (
	"slices"
	"testing"
)

func TestLackingAsksForWhatIsNotThere(t *testing.T) {
	got := lacking(t.Context(), []software{
		{pkg: "here", program: "sh"},
		{pkg: "not-here", program: "no-such-program-of-ours"},
		{pkg: "works", probe: "exit 0"},
		{pkg: "module-lacks", probe: "exit 1"},
	})
	if want := []string{"not-here", "module-lacks"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
