package invalidation

import (
	"fmt"
	"strings"

	"github.com/freshet/freshet/registry"
)

// enlist begins to list the node in Config.Registry, if there is one.
func (n *Node) enlist() error {
	if n.cfg.Registry == nil {
		return nil
	}
	k, err := registry.New(registry.Config{Registry: n.cfg.Registry, Instance: n.instance, Logger: n.cfg.Logger})
	if err != nil {
		return fmt.Errorf("%w: list the node in Config.Registry by ID and Address: %w", ErrConfig, err)
	}
	n.keeper = k
	n.wg.Go(func() { _ = k.Run(n.ctx) }) // it returns nil
	return nil
}

// instance is the node as others find it.
func (n *Node) instance() registry.Instance {
	inst := registry.Instance{ID: n.cfg.ID, Role: "node", Namespace: n.cfg.Namespace, Address: n.cfg.Address, Status: registry.Passing}
	if reasons := n.NotReady(); len(reasons) > 0 {
		inst.Status, inst.Note = registry.Warning, strings.Join(reasons, "\n")
	}
	return inst
}

// Registered returns how the node is listed in Config.Registry; without one it is not, and nothing failed.
func (n *Node) Registered() registry.Stats { return n.keeper.Stats() }
