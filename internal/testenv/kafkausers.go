package testenv

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// withAuthorizer makes the broker ask for rules. Connections without a login are those of the tests themselves and of the broker.
func withAuthorizer(given map[string]string) map[string]string {
	own := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
		"allow.everyone.if.no.acl.found": "false",
	}
	maps.Copy(own, given)
	return own
}

// SetPassword makes a user of the SCRAM listener, or gives it another password.
func (s *KafkaServer) SetPassword(t testing.TB, user, password string) {
	t.Helper()
	const iterations = 4096
	salt := []byte(unique("salt"))
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		t.Fatalf("testenv: salt password: %v", err)
	}
	u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = user, 1, iterations, salt, salted
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	req.Upsertions = append(req.Upsertions, u)
	res, err := req.RequestWith(t.Context(), s.Client(t))
	if err != nil {
		t.Fatalf("testenv: set password: %v", err)
	}
	for _, r := range res.Results {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			t.Fatalf("testenv: set password: %v", err)
		}
	}
}

// KafkaRule lets a user do operations on a resource.
type KafkaRule struct {
	// Resource is "topic", "group" or "cluster".
	Resource string
	Name     string
	// Prefixed rules are for all names that begin with Name.
	Prefixed bool
	// Operations are named as kafka-acls.sh names them: Read, Write, Create, Describe, DescribeConfigs.
	Operations []string
}

// Allow gives a user of the SCRAM listener rules, beside those that it has.
func (s *KafkaServer) Allow(t testing.TB, user string, rules []KafkaRule) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rules {
		for _, operation := range r.Operations {
			c := kmsg.NewCreateACLsRequestCreation()
			var err error
			if c.ResourceType, err = kmsg.ParseACLResourceType(r.Resource); err != nil {
				t.Fatalf("testenv: %v", err)
			}
			if c.Operation, err = kmsg.ParseACLOperation(strings.ToUpper(operation)); err != nil {
				t.Fatalf("testenv: %v", err)
			}
			c.ResourceName, c.ResourcePatternType = r.Name, kmsg.ACLResourcePatternTypeLiteral
			if r.Prefixed {
				c.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
			}
			c.Principal, c.Host, c.PermissionType = "User:"+user, "*", kmsg.ACLPermissionTypeAllow
			req.Creations = append(req.Creations, c)
		}
	}
	res, err := req.RequestWith(t.Context(), s.Client(t))
	if err == nil {
		for _, r := range res.Results {
			if e := kerr.ErrorForCode(r.ErrorCode); e != nil {
				err = fmt.Errorf("%w: %s", e, deref(r.ErrorMessage))
			}
		}
	}
	if err != nil {
		t.Fatalf("testenv: allow %s: %v", user, err)
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
