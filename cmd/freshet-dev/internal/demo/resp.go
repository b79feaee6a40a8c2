package demo

import (
	"bytes"
	"strconv"
)

// replyKind reports whether a reply of Redis is a message of a subscription.
type replyKind uint8

const (
	otherReply replyKind = iota
	pushedMessage
)

// reply measures the first reply in b: its length, or 0 while it is not complete. What it does not understand it takes
// for one reply of everything there is, so that the reader's own parser complains.
//
//	*3\r\n $7\r\nmessage\r\n $<n>\r\n<channel>\r\n $<n>\r\n<payload>\r\n
func reply(b []byte) (n int, kind replyKind) {
	n, first, ok := element(b, 0)
	switch {
	case !ok:
		return len(b), otherReply
	case n == 0:
		return 0, otherReply
	case b[0] == '*' && (string(first) == "message" || string(first) == "smessage"):
		return n, pushedMessage
	}
	return n, otherReply
}

// element measures the value at the beginning of b; text is the text of a bulk string, of an array that of its first
// member. ok is false for what is not RESP2.
func element(b []byte, depth int) (n int, text []byte, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return 0, nil, len(b) == 0 || bytes.IndexByte([]byte("+-:$*"), b[0]) >= 0
	}
	head := end + 2
	switch b[0] {
	case '+', '-', ':':
		return head, b[1:end], true
	case '$', '*':
	default:
		return 0, nil, false
	}
	size, err := strconv.Atoi(string(b[1:end]))
	if err != nil || depth > 2 {
		return 0, nil, false
	}
	if size < 0 {
		return head, nil, true
	}
	if b[0] == '$' {
		if n = head + size + 2; len(b) < n {
			return 0, nil, true
		}
		return n, b[head : head+size], true
	}
	n = head
	for i := range size {
		m, t, ok := element(b[n:], depth+1)
		if !ok || m == 0 {
			return 0, nil, ok
		}
		if i == 0 {
			text = t
		}
		n += m
	}
	return n, text, true
}
