package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/grants"
	"github.com/freshet/freshet/schemas"
)

// complete lets shells complete the names of datasets and topics in every command of a tree, by the words of its usage line and the names
// of its flags.
func (p *program) complete(cmd *cobra.Command) {
	words := strings.Fields(cmd.Use)[1:]
	for i, w := range words {
		switch strings.Trim(w, "[].") {
		case "DATASET":
			cmd.ValidArgsFunction = p.completeArg(i, strings.Contains(w, "..."), datasetNames)
		case "TOPIC", "TOPIC/PARTITION":
			cmd.ValidArgsFunction = p.completeArg(i, false, topicNames)
		}
	}
	for flag, names := range map[string]func(*schemas.Datasets) []string{"dataset": datasetNames, "topic": topicNames} {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, p.completeNames(names)) // it fails for a flag that does not exist, or twice
		}
	}
	for _, sub := range cmd.Commands() {
		p.complete(sub)
	}
}

// completeArg completes the argument at a position, and those after it if there may be many.
func (p *program) completeArg(at int, many bool, names func(*schemas.Datasets) []string) cobra.CompletionFunc {
	complete := p.completeNames(names)
	return func(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(given) != at && (!many || len(given) < at) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, given, begun)
	}
}

func (p *program) completeNames(names func(*schemas.Datasets) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		set, _, _, err := p.loadDatasets(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names(set), cobra.ShellCompDirectiveNoFileComp
	}
}

func datasetNames(set *schemas.Datasets) []string {
	var names []string
	for _, d := range set.All() {
		names = append(names, d.Name)
	}
	return names
}

func topicNames(set *schemas.Datasets) []string {
	var names []string
	for _, d := range set.All() {
		names = append(names, d.Topic)
	}
	return names
}

// completeRoles are the values of grants --role.
func completeRoles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, r := range grants.Roles() {
		names = append(names, string(r))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// group puts the commands of freshet's help under headings.
func group(root *cobra.Command) {
	groups := []struct{ id, title, names string }{
		{"begin", "Begin:", "dev init publish"},
		{"run", "Run:", "worker serve admin relay"},
		{"look", "Look:", "doctor lag nodes inspect verify deadletters datasets healthcheck"},
		{"act", "Act:", "replay backfill partitions outbox"},
		{"prepare", "Prepare:", "migrate schema config grants"},
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, cmd := range root.Commands() {
			if slices.Contains(strings.Fields(g.names), cmd.Name()) {
				cmd.GroupID = g.id
			}
		}
	}
}
