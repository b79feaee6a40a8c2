//go:build nodev

package main

import "github.com/spf13/cobra"

// addDev adds nothing: this binary was built for servers, without the embedded stack.
func (p *program) addDev(*cobra.Command) {}
