package listener

import (
	"fmt"
	"net"
	"strings"
)

// Loopback reports whether host, perhaps with a port, is this machine.
func Loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// CheckAddress returns an error for an address that is not host:port, and for one that other machines reach while guarded is false.
// setting is the name of the address's setting, and fix says how to guard the listener.
func CheckAddress(setting, addr string, guarded bool, fix string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s is %q; give host:port", setting, addr)
	}
	if guarded || Loopback(host) {
		return nil
	}
	return fmt.Errorf("%s is %s, which other hosts can reach, and nothing says who may ask; listen on 127.0.0.1, or %s", setting, addr, fix)
}
