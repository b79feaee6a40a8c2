package gate

import (
	"net/http"
	"slices"
	"strings"
)

// named are the problems whose codes say more than their status's text.
func named() map[int]string {
	return map[int]string{
		http.StatusUnprocessableEntity: "invalid", http.StatusRequestEntityTooLarge: "too_large", http.StatusServiceUnavailable: "unavailable",
		http.StatusGatewayTimeout: "timeout", http.StatusRequestTimeout: "timeout", http.StatusInternalServerError: "internal",
	}
}

// Code is the stable word for problems of a status, such as not_found, for programs that handle them.
func Code(status int) string {
	if code, ok := named()[status]; ok {
		return code
	}
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
}

// Codes lists every code that an answer can have, sorted.
func Codes() []string {
	var out []string
	for _, status := range []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusRequestTimeout, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusMisdirectedRequest,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	} {
		out = append(out, Code(status))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
