package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// Authority signs certificates of a test.
type Authority struct {
	// Pool holds the authority's certificate; PEM is its file.
	Pool *x509.CertPool
	PEM  []byte

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority that no one else knows.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: unique("authority ")}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatalf("testenv: make authority: %v", err)
	}
	a := &Authority{Pool: x509.NewCertPool(), PEM: block("CERTIFICATE", der), key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatalf("testenv: make authority: %v", err)
	}
	a.Pool.AddCert(a.cert)
	return a
}

// Sign makes a certificate for 127.0.0.1 and localhost that is good for both sides of a connection.
func (a *Authority) Sign(t testing.TB) tls.Certificate {
	t.Helper()
	cert, key := a.SignPEM(t)
	out, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatalf("testenv: make certificate: %v", err)
	}
	return out
}

// SignPEM is Sign for files.
func (a *Authority) SignPEM(t testing.TB) (cert, key []byte) {
	t.Helper()
	own := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatalf("testenv: make certificate: %v", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatalf("testenv: write key: %v", err)
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", secret)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("testenv: make key: %v", err)
	}
	return key
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
