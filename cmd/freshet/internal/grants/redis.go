package grants

import (
	"slices"
	"strings"
)

// Redis returns the rules of a role for ACL SETUSER: patterns of keys and channels, and commands.
func (d Deployment) Redis(r Role) []string {
	var commands []string
	switch r {
	case Node:
		commands = nodeCommands()
	case Worker, Admin, Serve:
		commands = append(nodeCommands(), workerCommands()...)
	default:
		return nil
	}
	rules := []string{"resetkeys", "resetchannels", "~{fr:" + d.Namespace + ":*", "~{fr:}:*", "&{fr:" + d.Namespace + ":*"}
	if r != Node {
		for _, pattern := range d.external() {
			rules = append(rules, "~"+pattern)
		}
	}
	// What belongs to a connection has new commands in each release, and a server refuses all rules for one that it does not know.
	rules = append(rules, "-@all", "+@connection", "-@dangerous", "-@admin")
	if d.Cluster {
		commands = append(commands, "spublish", "ssubscribe", "sunsubscribe", "cluster|slots", "cluster|shards")
	}
	slices.Sort(commands)
	for _, c := range slices.Compact(commands) {
		rules = append(rules, "+"+c)
	}
	return rules
}

// nodeCommands are what nodes and the scripts of a lane use.
func nodeCommands() []string {
	return []string{
		"info", "time",
		"eval", "evalsha", "script|load",
		"hget", "hmget", "hset", "hdel", "hlen", "hincrby", "hgetall",
		"get", "mget", "set", "getrange", "pttl", "exists", "del", "unlink", "pexpire",
		"xadd", "xrange", "sadd", "srem", "smembers", "rpush", "blpop", "zadd", "zrange", "zrem", "zremrangebyrank",
		"publish", "subscribe", "unsubscribe",
	}
}

// workerCommands are what workers and the admin API use besides.
func workerCommands() []string {
	return []string{"lrange", "llen", "zcard", "xlen", "xinfo|stream", "scan"}
}

// external are patterns for the keys of other applications that a dataset's changes delete.
func (d Deployment) external() []string {
	var out []string
	for _, ds := range d.Datasets.All() {
		if ds.Cache == nil {
			continue
		}
		for _, template := range ds.Cache.External {
			if p := pattern(template); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// pattern turns a template such as page:{id} into the glob pattern page:*.
func pattern(template string) string {
	var b strings.Builder
	for rest := template; ; {
		literal, after, found := strings.Cut(rest, "{")
		b.WriteString(strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "^", `\^`).Replace(literal))
		if !found {
			return b.String()
		}
		_, rest, _ = strings.Cut(after, "}")
		b.WriteByte('*')
	}
}
