package kafkalog_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/testenv"
)

// unsigned is a token as Kafka's validator for developers takes it: a JSON Web Token without a signature.
func unsigned(subject string, expires time.Time) string {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, subject, time.Now().Add(-time.Minute).Unix(), expires.Unix())) + "."
}

// A broker lets in who shows a valid token, asks for the token of each connection, and refuses one that has expired.
func TestTokensLogIn(t *testing.T) {
	ks := testenv.StartKafka(t, testenv.KafkaOptions{SCRAM: true, Properties: map[string]string{
		"sasl.enabled.mechanisms":                          "SCRAM-SHA-256,OAUTHBEARER",
		"listener.name.login.oauthbearer.sasl.jaas.config": "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
	}})
	ks.RequireReal(t)
	topic := ks.CreateTopic(t, 1)
	ask := func(s kafkalog.SASL) error {
		c, err := kafkalog.New(kafkalog.Config{Brokers: ks.SCRAMBrokers, SASL: s})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Topic(t.Context(), topic)
		return err
	}
	good := unsigned("worker", time.Now().Add(time.Hour))
	if err := ask(kafkalog.SASL{Mechanism: "oauthbearer", Password: good, Extensions: map[string]string{"logicalCluster": "lkc-1"}}); err != nil {
		t.Error(err)
	}
	asked := 0
	credentials := func(context.Context) (string, string, error) {
		asked++
		return "", good, nil
	}
	if err := ask(kafkalog.SASL{Mechanism: "oauthbearer", Credentials: credentials}); err != nil || asked == 0 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	expired := unsigned("worker", time.Now().Add(-time.Second))
	err := ask(kafkalog.SASL{Mechanism: "oauthbearer", Password: expired})
	if err == nil || !strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), expired) {
		t.Errorf("an expired token: %v", err)
	}
}

func TestTokensThatCannotBeSent(t *testing.T) {
	for want, s := range map[string]kafkalog.SASL{
		"token is empty":           {Mechanism: "oauthbearer"},
		"the token has a space":    {Mechanism: "oauthbearer", Password: "a\x01auth=Bearer b"},
		"is not auth":              {Mechanism: "oauthbearer", Password: "t", Extensions: map[string]string{"auth": "x"}},
		"a name has letters alone": {Mechanism: "oauthbearer", Password: "t", Extensions: map[string]string{"a=b": "x"}},
		"go with oauthbearer":      {Mechanism: "plain", User: "u", Password: "p", Extensions: map[string]string{"a": "x"}},
	} {
		if _, err := kafkalog.New(kafkalog.Config{Brokers: []string{"h:1"}, SASL: s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}
