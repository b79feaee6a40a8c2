//go:build unix && !linux

package testenv

import "syscall"

// childAttr: own process group. Only Linux can tie a child's life to its parent's; elsewhere the cleanup must do.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stopped trusts the signal where there is no /proc.
func stopped(int) error { return nil }
