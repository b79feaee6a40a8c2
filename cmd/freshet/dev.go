//go:build !nodev

package main

import "github.com/spf13/cobra"

func (p *program) addDev(*cobra.Command) {}
