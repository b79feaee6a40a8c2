package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

const oauthMechanism = "oauthbearer"

// SASL is how a client authenticates to the brokers. The zero value does not authenticate.
type SASL struct {
	// Mechanism is plain, scram-sha-256, scram-sha-512 or oauthbearer; "" means none.
	Mechanism string
	// User and Password are those of every connection. With oauthbearer, Password is the token, and User is not used.
	User, Password string
	// Extensions go with the token of oauthbearer, such as logicalCluster; nil means none.
	Extensions map[string]string
	// Credentials, if not nil, takes the place of User and Password. It is called for each authentication, so that a replaced
	// password is used while the program runs.
	Credentials func(ctx context.Context) (user, password string, err error)
}

// check refuses what would fail with every broker. No error quotes a password.
func (s SASL) check() error {
	given := s.User != "" || s.Password != "" || s.Credentials != nil
	switch {
	case s.Mechanism == "" && given:
		return errors.New("check SASL: Mechanism is missing; give plain, scram-sha-256, scram-sha-512 or oauthbearer")
	case s.Mechanism != "" && s.Mechanism != oauthMechanism && s.Credentials == nil && s.User == "":
		return errors.New("check SASL: User is missing; give User and Password, or Credentials")
	case s.Mechanism != oauthMechanism && len(s.Extensions) > 0:
		return errors.New("check SASL: Extensions go with oauthbearer alone")
	case s.Mechanism == oauthMechanism && s.Credentials != nil:
		_, err := newOAuthBearer("token", s.Extensions)
		return err
	case s.Mechanism == "" || s.Credentials != nil && s.Mechanism == "plain":
		return nil
	}
	_, err := s.with(s.User, s.Password)
	return err
}

// mechanism returns what authenticates the next connection; nil without a Mechanism.
func (s SASL) mechanism(ctx context.Context) (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		return nil, nil
	}
	user, password := s.User, s.Password
	if s.Credentials != nil {
		var err error
		if user, password, err = s.Credentials(ctx); err != nil {
			return nil, fmt.Errorf("get user and password: %w", err)
		}
	}
	return s.with(user, password)
}

// with is the mechanism with that user and that password or token.
func (s SASL) with(user, password string) (m sasl.Mechanism, err error) {
	switch s.Mechanism {
	case oauthMechanism:
		return newOAuthBearer(password, s.Extensions)
	case "plain":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "scram-sha-256":
		m, err = scram.Mechanism(scram.SHA256, user, password)
	case "scram-sha-512":
		m, err = scram.Mechanism(scram.SHA512, user, password)
	default:
		return nil, fmt.Errorf("check SASL: Mechanism %q is unknown; give plain, scram-sha-256, scram-sha-512 or oauthbearer", s.Mechanism)
	}
	if err != nil { // its words may quote the password
		return nil, errors.New("check SASL: user or password has characters that SCRAM does not allow; use others")
	}
	return m, nil
}
