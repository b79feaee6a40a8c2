package invalidation

import (
	"runtime/debug"
	"slices"
)

const modulePath = "github.com/freshet/freshet"

// moduleVersion returns the version of this module in the running program: "development" for one that was built from a checkout, "" if the
// build does not state it.
func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	modules := append([]*debug.Module{&info.Main}, info.Deps...)
	at := slices.IndexFunc(modules, func(m *debug.Module) bool { return m.Path == modulePath })
	if at < 0 {
		return ""
	}
	if v := modules[at].Version; v != "" && v != "(devel)" {
		return v
	}
	return "development"
}
