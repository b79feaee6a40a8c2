package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// childAttr: own process group, and death with the thread that forks.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// stopped returns nil when the kernel shows every thread's leader as stopped.
func stopped(pid int) error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return fmt.Errorf("read state of process: %w", err)
	}
	// pid (comm) state …: comm may hold anything, so look behind its last parenthesis.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 || i+2 >= len(b) || b[i+2] != 'T' {
		return errors.New("not stopped yet")
	}
	return nil
}
