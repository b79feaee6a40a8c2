package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SASL is how a client authenticates to the brokers. The zero value does not authenticate.
type SASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512; "" means none.
	Mechanism string
	// User and Password are those of every connection.
	User, Password string
	// Credentials, if not nil, takes the place of User and Password. It is called for each authentication, so that a replaced
	// password is used while the program runs.
	Credentials func(ctx context.Context) (user, password string, err error)
}

// check refuses what would fail with every broker. No error quotes a password.
func (s SASL) check() error {
	given := s.User != "" || s.Password != "" || s.Credentials != nil
	switch {
	case s.Mechanism == "" && given:
		return errors.New("check SASL: Mechanism is missing; give plain, scram-sha-256 or scram-sha-512")
	case s.Mechanism != "" && s.Credentials == nil && s.User == "":
		return errors.New("check SASL: User is missing; give User and Password, or Credentials")
	case s.Mechanism == "" || s.Credentials != nil && s.Mechanism == "plain":
		return nil
	}
	_, err := mechanism(s.Mechanism, s.User, s.Password)
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
	return mechanism(s.Mechanism, user, password)
}

func mechanism(name, user, password string) (m sasl.Mechanism, err error) {
	switch name {
	case "plain":
		return plain.Mechanism{Username: user, Password: password}, nil
	case "scram-sha-256":
		m, err = scram.Mechanism(scram.SHA256, user, password)
	case "scram-sha-512":
		m, err = scram.Mechanism(scram.SHA512, user, password)
	default:
		return nil, fmt.Errorf("check SASL: Mechanism %q is unknown; give plain, scram-sha-256 or scram-sha-512", name)
	}
	if err != nil { // its words may quote the password
		return nil, errors.New("check SASL: user or password has characters that SCRAM does not allow; use others")
	}
	return m, nil
}
