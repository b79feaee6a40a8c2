package bench_test

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/freshet/freshet/cmd/freshet/internal/bench"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/testenv"
)

// Every client delivers all events, and their topic is removed.
func TestClientsPublishTheSameEvents(t *testing.T) {
	kafka := testenv.Kafka(t)
	for _, compression := range []string{"none", "zstd"} {
		l, err := config.Load(config.Source{Environ: []string{
			"FRESHET_KAFKA__BROKERS=" + strings.Join(kafka.Brokers, ","), "FRESHET_PRODUCER__COMPRESSION=" + compression,
		}})
		if err != nil {
			t.Fatal(err)
		}
		res, err := bench.Publish(t.Context(), l.Config, bench.PublishConfig{Events: 2000, Partitions: 3, Size: 290, Turns: 2}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("compression %s: %v", compression, err)
		}
		if len(res.Clients) != 4 || len(res.CPURatios) != 4 || res.Compression != compression {
			t.Errorf("compression %s: %+v", compression, res)
		}
		for _, c := range res.Clients {
			if c.Rate.Min <= 0 || c.Allocs.Min <= 0 {
				t.Errorf("%s measured nothing: %+v", c.Name, c)
			}
		}
		res.Print(io.Discard)
	}
}
