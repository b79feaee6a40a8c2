package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/schemas"
)

// sectionHash is one line of schema hash.
type sectionHash struct {
	Dataset string `json:"dataset"`
	Hash    string `json:"hash"`
	Key     string `json:"key"`
	// Names has every template of a cache key, with the kind of each property in it.
	Names map[string]map[string]string `json:"names"`
}

func schemaHash(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hash [DATASET]",
		Short: "Print the hashes of cache sections, for followers in other languages",
		Long: "A client that keeps a cache of its own compares this hash with what the lanes have, and keeps nothing while they differ:\n" +
			"the workers' templates would make other names stale than the client's. Datasets without a cache section are left out. With --json\n" +
			"each template of a cache key and the kinds of its properties are printed too: followers are made with that.",
		Args: args(cobra.MaximumNArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		set, _, _, err := p.loadDatasets(cmd)
		if err != nil {
			return err
		}
		all := set.All()
		if len(a) == 1 {
			ds, err := connect.Dataset(set, a[0])
			if err != nil {
				return err
			}
			if ds.Cache == nil {
				return usageError{fmt.Errorf("dataset %s has no cache section; give it one, or another dataset", ds.Name)}
			}
			all = []*schemas.Dataset{ds}
		}
		return printHashes(p, all)
	}
	config.Bind(cmd.Flags(), "datasets", "log")
	return cmd
}

func printHashes(p *program, all []*schemas.Dataset) error {
	lines := []sectionHash{}
	for _, ds := range all {
		if ds.Cache != nil {
			lines = append(lines, sectionHash{ds.Name, ds.CacheHash(), ds.Cache.Key, ds.CacheNames()})
		}
	}
	if p.json {
		return p.printJSON(lines)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\n", l.Dataset, l.Hash, l.Key)
	}
	return w.Flush()
}
