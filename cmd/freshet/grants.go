package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/grants"
)

// grantFlags are the flags of grants.
type grantFlags struct {
	roles, on                    []string
	user, host, database, source string
	rebuilds                     bool
}

func grantsCommand(p *program) *cobra.Command {
	var f grantFlags
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "Print the least that accounts in MySQL, Kafka and Redis must be allowed",
		Long: "Print statements for MySQL or MariaDB, arguments of kafka-acls.sh, and Redis ACLs, for the declared datasets. It connects to\n" +
			"nothing and prints no password. Roles: " + roleNames(", ") + ".\n\n" +
			"Grants are on tables, which must exist: run it after migrate datasets, and again for each new dataset. A worker that rebuilds\n" +
			"tables (--rebuilds) needs the whole database.",
		Example: "  freshet grants --role worker --on mysql | mariadb\n  freshet grants --role node --user shop",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, c, _, err := p.loadDatasets(cmd)
			if err != nil {
				return err
			}
			d := grants.Deployment{
				Datasets: set, Database: f.database, Source: f.source, Namespace: c.Namespace, Group: c.Kafka.Group,
				Cluster: c.Redis.Mode == "cluster", DeadTopics: c.Worker.DeadTopics, Rebuilds: f.rebuilds,
			}
			if d.Database == "" {
				d.Database = connect.Database(c.MySQL.DSN)
			}
			if d.Source == "" {
				d.Source = connect.Database(c.Relay.DSN)
			}
			if err := f.check(); err != nil {
				return err
			}
			return p.printGrants(d, f)
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&f.roles, "role", nil, "roles, all by default")
	fs.StringSliceVar(&f.on, "on", nil, "mysql, kafka or redis, all by default")
	fs.StringVar(&f.user, "user", "", "name of the account; freshet_ROLE by default")
	fs.StringVar(&f.host, "host", "%", "host part of the account in MySQL")
	fs.StringVar(&f.database, "database", "", "the replica's database; that of mysql.dsn by default")
	fs.StringVar(&f.source, "source-database", "", "the database that has the outbox; that of relay.dsn by default")
	fs.BoolVar(&f.rebuilds, "rebuilds", false, "workers may rebuild tables")
	_ = cmd.RegisterFlagCompletionFunc("role", completeRoles) // the flag exists
	config.Bind(fs, "datasets", "namespace", "kafka", "redis", "worker")
	return cmd
}

// check refuses names that could end a quotation or a line: the output is meant for other programs.
func (f grantFlags) check() error {
	if strings.ContainsFunc(f.user, func(r rune) bool {
		return !strings.ContainsRune("._@=,-", r) && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}) {
		return usageError{fmt.Errorf("--user: %q has a character that is no letter, no digit and none of . _ @ = , -", f.user)}
	}
	if strings.ContainsFunc(f.host, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return usageError{errors.New("--host: it has a control character")}
	}
	return nil
}

func roleNames(separator string) string {
	var names []string
	for _, r := range grants.Roles() {
		names = append(names, string(r))
	}
	return strings.Join(names, separator)
}

// roleGrants is what grants prints of a role as JSON.
type roleGrants struct {
	Role  grants.Role  `json:"role"`
	MySQL []string     `json:"mysql,omitempty"`
	Kafka []grants.ACL `json:"kafka,omitempty"`
	Redis []string     `json:"redis,omitempty"`
}

func (p *program) printGrants(d grants.Deployment, f grantFlags) error {
	roles := grants.Roles()
	if len(f.roles) > 0 {
		roles = nil
		for _, name := range f.roles {
			if !slices.Contains(grants.Roles(), grants.Role(name)) {
				return usageError{fmt.Errorf("--role: %q is unknown; use one of %s", name, roleNames(", "))}
			}
			roles = append(roles, grants.Role(name))
		}
	}
	for _, server := range f.on {
		if !slices.Contains([]string{"mysql", "kafka", "redis"}, server) {
			return usageError{fmt.Errorf("--on: %q is unknown; use mysql, kafka or redis", server)}
		}
	}
	wanted := func(server string) bool { return len(f.on) == 0 || slices.Contains(f.on, server) }
	all := []roleGrants{}
	for _, r := range roles {
		user := f.user
		if user == "" {
			user = "freshet_" + string(r)
		}
		g := roleGrants{Role: r}
		if wanted("mysql") {
			for _, sql := range d.MySQL(r) {
				g.MySQL = append(g.MySQL, sql.Statement(quoted(user)+"@"+quoted(f.host)))
			}
		}
		if wanted("kafka") {
			g.Kafka = d.Kafka(r)
		}
		if wanted("redis") {
			g.Redis = d.Redis(r)
		}
		all = append(all, g)
		if !p.json {
			p.printRole(g, user)
		}
	}
	if d.Database == "" && wanted("mysql") {
		fmt.Fprintln(p.err, "no grants on the replica: its database is unknown; give --database, or mysql.dsn")
	}
	ofSource := slices.ContainsFunc(roles, func(r grants.Role) bool { return r == grants.Outbox || r == grants.Relay || r == grants.Backfill })
	if d.Source == "" && wanted("mysql") && ofSource && len(f.roles) > 0 {
		fmt.Fprintln(p.err, "no grants on the source: its database is unknown; give --source-database, or relay.dsn")
	}
	if p.json {
		return p.printJSON(all)
	}
	return nil
}

// printRole prints one role. Comments begin with -- in SQL and with # elsewhere, so that each part may be piped into its server's client.
func (p *program) printRole(g roleGrants, user string) {
	if len(g.MySQL) > 0 {
		fmt.Fprintf(p.out, "-- %s, in MySQL\n", g.Role)
		for _, stmt := range g.MySQL {
			fmt.Fprintln(p.out, stmt+";")
		}
	}
	if len(g.Kafka) > 0 {
		fmt.Fprintf(p.out, "# %s, in Kafka\n", g.Role)
		for _, acl := range g.Kafka {
			fmt.Fprintln(p.out, "kafka-acls.sh --bootstrap-server BROKER --add "+acl.Command("User:"+user))
		}
	}
	if len(g.Redis) > 0 {
		fmt.Fprintf(p.out, "# %s, in Redis; give it a password with >PASSWORD\n", g.Role)
		fmt.Fprintln(p.out, "ACL SETUSER "+user+" on "+strings.Join(g.Redis, " "))
	}
}

// quoted is a string literal of SQL.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}
