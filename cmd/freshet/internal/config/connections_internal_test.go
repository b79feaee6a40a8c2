package config

import (
	"strings"
	"testing"
)

// TestConnectionsThatLookSafeAndAreNot: each line is refused, and its fix is accepted.
func TestConnectionsThatLookSafeAndAreNot(t *testing.T) {
	for _, tc := range []struct{ bad, want, good string }{
		{"KAFKA__TLS__CA_FILE=ca.pem", "kafka.tls: has files", "KAFKA__TLS__ENABLED=true"},
		{"MYSQL__TLS__SERVER_NAME=db", "mysql.tls: has files", "MYSQL__TLS__ENABLED=true"},
		{"REDIS__TLS__CA_FILE=ca.pem", "redis.tls: has files", "REDIS__URL=rediss://h:1/0"},
		{"RELAY__TLS__CA_FILE=ca.pem", "relay.tls: has files", "RELAY__TLS__ENABLED=true"},
		{"MYSQL__CLEARTEXT=true", "mysql.cleartext: sends the password", "MYSQL__TLS__ENABLED=true"},
		{"RELAY__CLEARTEXT=true", "relay.cleartext: sends the password", "RELAY__TLS__ENABLED=true"},
		{"KAFKA__SASL__USERNAME=u", "kafka.sasl.mechanism: is empty", "KAFKA__SASL__MECHANISM=scram-sha-512"},
		{"KAFKA__SASL__MECHANISM=plain KAFKA__BROKERS=kafka:9092 KAFKA__SASL__USERNAME=u", "plain sends the secret itself", "KAFKA__TLS__ENABLED=true"},
		{"KAFKA__SASL__MECHANISM=oauthbearer KAFKA__BROKERS=127.0.0.1:1,kafka:9092", "oauthbearer sends the secret itself", "KAFKA__TLS__ENABLED=true"},
		{"KAFKA__SASL__MECHANISM=plain KAFKA__BROKERS=kafka:9092 KAFKA__SASL__USERNAME=u", "plain sends the secret itself", "KAFKA__BROKERS=localhost:9092"},
	} {
		vars := func(words string) (out []string) {
			for w := range strings.FieldsSeq(words) {
				out = append(out, "FRESHET_"+w)
			}
			return out
		}
		if _, err := Load(Source{Environ: vars(tc.bad)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.bad, err, tc.want)
		}
		if _, err := Load(Source{Environ: vars(tc.bad + " " + tc.good)}); err != nil {
			t.Errorf("%s %s: %v", tc.bad, tc.good, err)
		}
	}
	for _, tc := range []struct{ vars, want string }{
		{"FRESHET_KAFKA__SASL__EXTENSIONS=a=b", "go with oauthbearer"},
		{"FRESHET_MYSQL__PASSWORD_COMMAND= ", "is blank"},
		{"FRESHET_KAFKA__SASL__MECHANISM=gssapi", "is unknown"},
	} {
		if _, err := Load(Source{Environ: []string{tc.vars}}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.vars, err)
		}
	}
}
