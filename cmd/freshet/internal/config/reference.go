package config

import (
	"fmt"
	"io"
	"strings"
)

//go:generate sh -c "go run ../.. config reference > ../../../../docs/configuration.md"

// group is a chapter of the reference: the settings whose keys begin with its name and a dot.
type group struct{ name, title, about string }

func groups() []group {
	return []group{
		{"", "General", "All commands read them."},
		{"kafka", "Kafka", "Workers, the admin API, relays and most commands."},
		{"mysql", "MySQL: the replica", "Workers, the admin API and the commands that read or change the replica. A relay has `relay.dsn` instead."},
		{"redis", "Redis", "Workers, the admin API, and commands that ask nodes or lanes."},
		{"worker", "Worker", "`freshet worker` and `freshet serve`."},
		{"retention", "Retention", "How long the worker keeps rows that have no further use."},
		{"producer", "Producer", "`freshet publish`, the admin API, and what relays and replays publish."},
		{"relay", "Relay", "`freshet relay`, `freshet outbox`, `freshet backfill` and `freshet init`, which reads the source's tables."},
		{"admin", "Admin API", "`freshet admin` and `freshet serve`; workers and relays use the tokens and certificates too ([listeners](operations.md#listeners)). [admin.md](admin.md) explains tokens and roles."},
		{"client", "Client", "The commands that ask the admin API, such as `freshet lag` and `freshet replay`."},
		{"registry", "Registry", "`freshet worker` and `freshet serve`. [discovery.md](discovery.md) explains them."},
		{"log", "Log", "All commands; the log goes to standard error."},
	}
}

// WriteReference writes the table of settings as a page in Markdown.
func WriteReference(w io.Writer) error {
	page := &strings.Builder{}
	page.WriteString("# Configuration\n\n" +
		"<!-- Written by `go generate ./...` from the table of settings; do not edit. -->\n\n" +
		"Each setting has one name and three places. A stronger place wins: a YAML file (`--config FILE`), then the environment, then a flag.\n\n" +
		"| place | `kafka.brokers` there |\n|---|---|\n" +
		"| YAML file | `kafka:` and, indented below it, `brokers: [kafka-1:9092, kafka-2:9092]` |\n" +
		"| environment | `" + varOf("kafka.brokers") + "=kafka-1:9092,kafka-2:9092` (a dot becomes `__`) |\n" +
		"| flag | `--" + flagOf("kafka.brokers") + "=kafka-1:9092,kafka-2:9092` (dots and `_` become `-`) |\n\n" +
		"- `freshet config` prints the value in force of each setting and where it comes from; secrets are masked.\n" +
		"- `freshet config sample` prints a file with all settings and their defaults, to begin from.\n" +
		"- A name that does not exist is an error, in the file as in the environment; the message suggests one that does.\n" +
		"- Secrets have no flags, because everybody on a machine can see its command lines. Each may come from a file: the setting of the same name with `_file`. " +
		"[operations.md](operations.md#secrets-and-certificates) says which files may change while a process runs.\n" +
		"- Durations are written as `500ms`, `10s`, `2h45m`. Sizes are in bytes.\n")
	for _, g := range groups() {
		page.WriteString("\n## " + g.title + "\n\n" + g.about + "\n\n| setting | default | meaning |\n|---|---|---|\n")
		for _, s := range settings() {
			if s.group() == g.name {
				fmt.Fprintf(page, "| `%s` | %s | %s |\n", s.key, s.shownDefault(), s.cell())
			}
		}
	}
	_, err := io.WriteString(w, page.String())
	return err //nolint:wrapcheck // the caller's writer
}

// WriteSample writes a YAML file that sets every setting to its default, each with its meaning above it. Secrets are left out as
// comments: a file with one of them should be readable by its owner alone.
func WriteSample(w io.Writer) error {
	file := &strings.Builder{}
	file.WriteString("# Settings of freshet with their defaults. Keep the lines that you change, and delete the others.\n")
	var open []string // the maps that are open
	for _, g := range groups() {
		for _, s := range settings() {
			if s.group() != g.name {
				continue
			}
			parts := strings.Split(s.key, ".")
			maps := parts[:len(parts)-1]
			same := 0
			for same < len(maps) && same < len(open) && maps[same] == open[same] {
				same++
			}
			for i := same; i < len(maps); i++ {
				fmt.Fprintf(file, "\n%s%s:\n", strings.Repeat("  ", i), maps[i])
			}
			open = maps
			indent := strings.Repeat("  ", len(maps))
			fmt.Fprintf(file, "%s# %s\n", indent, s.help)
			if s.secret {
				indent += "# "
			}
			fmt.Fprintf(file, "%s%s: %s\n", indent, parts[len(parts)-1], s.yamlDefault())
		}
	}
	_, err := io.WriteString(w, file.String())
	return err //nolint:wrapcheck // the caller's writer
}

func (s setting) group() string {
	name, _, dotted := strings.Cut(s.key, ".")
	if !dotted {
		return ""
	}
	return name
}

func (s setting) cell() string {
	text := strings.ReplaceAll(s.help, "|", `\|`)
	if s.secret {
		text += ". A secret: no flag"
	}
	return text
}

func (s setting) shownDefault() string {
	if v := s.yamlDefault(); v != `""` {
		return "`" + v + "`"
	}
	return ""
}

func (s setting) yamlDefault() string {
	switch v := s.def.(type) {
	case []string:
		if len(v) == 0 {
			return "[]"
		}
		return `["` + strings.Join(v, `", "`) + `"]`
	case string:
		if v == "" || strings.Contains(v, ": ") {
			return fmt.Sprintf("%q", v)
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}
