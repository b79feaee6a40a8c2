package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestGrantsArePrinted(t *testing.T) {
	environ := []string{"FRESHET_DATASETS=../../examples/shop/datasets", "FRESHET_MYSQL__DSN=root:hunter2@tcp(127.0.0.1:1)/shop_replica", "FRESHET_NAMESPACE=shop"}
	out, errOut, code := freshet(t, environ, "grants")
	if code != 0 || errOut != "" || strings.Contains(out, "hunter2") {
		t.Fatalf("exit code %d, %s\n%s", code, errOut, out)
	}
	for _, want := range []string{
		"GRANT SELECT, INSERT ON `shop_replica`.`freshet_audit` TO 'freshet_admin'@'%';",
		"GRANT SELECT ON `shop_replica`.`users` TO 'freshet_node'@'%';",
		"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, CREATE VIEW, SHOW VIEW ON `shop\\_replica`.* TO 'freshet_migrate'@'%';",
		"--allow-principal 'User:freshet_worker' --operation Read --operation Write --operation Describe --operation DescribeConfigs --topic 'freshet.users'",
		"--allow-principal 'User:freshet_worker' --operation Read --operation Describe --group 'freshet-shop'",
		"ACL SETUSER freshet_node on resetkeys resetchannels ~{fr:shop:* ~{fr:}:* &{fr:shop:* -@all +@connection -@dangerous -@admin ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %s in\n%s", want, out)
		}
	}
	out, _, _ = freshet(t, environ, "grants", "--role", "node", "--on", "mysql", "--user", "shop.node", "--host", "10.0.0.%")
	if !strings.HasPrefix(out, "-- node, in MySQL\nGRANT SELECT ON `shop_replica`.`") || !strings.Contains(out, "TO 'shop.node'@'10.0.0.%';") {
		t.Errorf("one role: %s", out)
	}
	out, _, _ = freshet(t, environ, "grants", "--role", "serve", "--rebuilds", "--json")
	var roles []struct{ MySQL []string }
	if err := json.Unmarshal([]byte(out), &roles); err != nil || len(roles) != 1 || !strings.Contains(strings.Join(roles[0].MySQL, ";"), "TRIGGER ON `shop\\_replica`.*") {
		t.Errorf("%v: %s", err, out)
	}
	for _, bad := range [][]string{{"--role", "king"}, {"--on", "oracle"}, {"--user", "x'; touch y; '"}, {"--user", "a on\nFLUSHALL"}, {"--host", "a\nb"}} {
		if _, errOut, code := freshet(t, environ, append([]string{"grants"}, bad...)...); code != exitUsage || errOut == "" {
			t.Errorf("%v: %d, %s", bad, code, errOut)
		}
	}
	if _, errOut, _ = freshet(t, environ[:1], "grants", "--role", "node"); !strings.Contains(errOut, "give --database") {
		t.Errorf("without a database: %q", errOut)
	}
}
