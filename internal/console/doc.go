// Package console is the page of the admin server: what the admin API knows, for people.
//
// A request passes Console.ServeHTTP, which leaves the API's own paths to the API. For the others it finds the session
// (package session), then the screen. A screen's load function asks the admin API, in this process but with the person's own API token, and
// returns what its template shows. So a page can neither show nor do what the API refuses that person, and each action is in the
// audit log under their name.
//
// The same address serves a page and, to an EventSource, a stream that sends the page's content whenever it differs; assets/live.js puts the
// differences in place. Every action is a form that works without JavaScript.
//
// English texts are in the templates and are the keys of text/messages/zh-CN.json.
package console
