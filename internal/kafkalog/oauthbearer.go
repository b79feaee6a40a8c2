package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
)

// oauthbearer logs in with a token, as RFC 7628 says and Kafka's brokers read it. Clouds that have tokens of their own (AWS MSK IAM, Azure
// Event Hubs) take them in this form.
type oauthbearer struct {
	token      string
	extensions map[string]string
}

// newOAuthBearer refuses what would change the meaning of the message: the parts are separated by 0x01.
func newOAuthBearer(token string, extensions map[string]string) (oauthbearer, error) {
	if token == "" {
		return oauthbearer{}, errors.New("check SASL: the token is empty")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7F }) {
		return oauthbearer{}, errors.New("check SASL: the token has a space, a control character or one outside of ASCII") // not quoted: it is a secret
	}
	for name, value := range extensions {
		if name == "" || name == "auth" || strings.ContainsFunc(name, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r >= 0x7F }) {
			return oauthbearer{}, fmt.Errorf("check SASL: extension %q: a name has letters alone and is not auth, and a value no control character", name)
		}
	}
	return oauthbearer{token, extensions}, nil
}

// Name is the mechanism's name on the wire.
func (o oauthbearer) Name() string { return "OAUTHBEARER" }

// Start returns the only message of a login that succeeds.
func (o oauthbearer) Start(context.Context) (sasl.StateMachine, []byte, error) {
	var b strings.Builder
	b.WriteString("n,,\x01auth=Bearer " + o.token)
	for _, name := range slices.Sorted(maps.Keys(o.extensions)) {
		b.WriteString("\x01" + name + "=" + o.extensions[name])
	}
	b.WriteString("\x01\x01")
	return o, []byte(b.String()), nil
}

// Next ends a login: an answer that is not empty is the broker's reason for a refusal, which one more message has to acknowledge.
func (o oauthbearer) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	if len(challenge) > 0 {
		return false, []byte("\x01"), nil
	}
	return true, nil, nil
}
