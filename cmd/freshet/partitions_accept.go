package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
)

// acceptReport is what partitions accept prints with --json.
type acceptReport struct {
	Topic    string `json:"topic"`
	ID       string `json:"topic_id"`
	Accepted bool   `json:"accepted"`
}

func partitionsAccept(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept TOPIC",
		Short: "Let a topic be read again under an id that another one had replaced",
		Long: "A dataset is paused when its topic has an id that it had before and that another one replaced, as after going back to a\n" +
			"previous Kafka cluster. This command accepts the topic as the cluster has it now. The worker then reads it like a recreated\n" +
			"topic: it flushes every lane and continues at the position that it had under that id, or at the log's start if that is\n" +
			"no longer known. Rows are never set back: the greater version wins.",
		Args: args(cobra.ExactArgs(1)),
	}
	cmd.RunE = p.withReplica(func(ctx context.Context, db *replica.DB, kafka *kafkalog.Client, name string) error {
		info, err := kafka.Topic(ctx, name)
		if err != nil {
			return fmt.Errorf("look for topic %s: %w", name, err)
		}
		r := acceptReport{Topic: info.Name, ID: info.ID}
		if r.Accepted, err = db.Topics.Accept(ctx, info.Name, info.ID); err != nil {
			return err
		}
		switch {
		case p.json:
			return p.printJSON(r)
		case r.Accepted:
			fmt.Fprintf(p.out, "topic %s is accepted with id %s; its workers read it within seconds\n", r.Topic, r.ID)
		default:
			fmt.Fprintf(p.out, "topic %s with id %s waits for nothing: the id was not replaced by another; a dataset with cdc.table reads TOPIC#DATASET, as freshet lag prints it\n", r.Topic, r.ID)
		}
		return nil
	})
	config.Bind(cmd.Flags(), "kafka", "mysql", "log")
	return cmd
}
