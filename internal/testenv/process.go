package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"sync"
	"syscall"
	"testing"
	"time"
)

// launcher starts all children from one thread. Linux kills a child with Pdeathsig when the *thread* that forked it ends,
// and Go ends threads at will, so that thread is locked and lives as long as the launcher.
type launcher struct {
	jobs chan func()
	gone chan struct{} // closed when the thread has ended

	mu    sync.Mutex
	procs map[*Process]struct{}
	dirs  []string // removed by close
	down  bool
}

func newLauncher() *launcher {
	l := &launcher{jobs: make(chan func()), gone: make(chan struct{}), procs: map[*Process]struct{}{}}
	go func() {
		defer close(l.gone)
		runtime.LockOSThread() // never unlocked: the thread dies with this goroutine
		for job := range l.jobs {
			job()
		}
	}()
	return l
}

// start runs cmd in its own process group; output goes to the end of logPath.
func (l *launcher) start(name string, cmd *exec.Cmd, logPath string) (*Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, fmt.Errorf("start %s: the launcher is closed", name)
	}
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer out.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = out
	}
	cmd.SysProcAttr = childAttr()
	started := make(chan error)
	l.jobs <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, log: logPath, pid: cmd.Process.Pid, done: make(chan struct{})}
	l.procs[p] = struct{}{}
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		close(p.done)
		p.mu.Unlock()
		l.mu.Lock()
		delete(l.procs, p)
		l.mu.Unlock()
	}()
	return p, nil
}

// run starts cmd and waits until it ends well.
func (l *launcher) run(ctx context.Context, name string, cmd *exec.Cmd, logPath string) error {
	p, err := l.start(name, cmd, logPath)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("run %s: %w\n%s", name, p.err, tail(logPath, 20))
		}
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("run %s: %w\n%s", name, ctx.Err(), tail(logPath, 20)), p.kill())
	}
}

// remove notes a directory that goes with the launcher.
func (l *launcher) remove(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirs = append(l.dirs, dir)
}

// close kills every child that is left and ends the thread. It returns the names of those that did not die.
func (l *launcher) close() []string {
	l.mu.Lock()
	if l.down {
		l.mu.Unlock()
		return nil
	}
	l.down = true
	procs := make([]*Process, 0, len(l.procs))
	for p := range l.procs {
		procs = append(procs, p)
	}
	dirs := l.dirs
	l.mu.Unlock()
	var left []string
	for _, p := range procs {
		if err := p.kill(); err != nil {
			left = append(left, fmt.Sprintf("%s (pid %d): %v", p.name, p.pid, err))
		}
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			left = append(left, err.Error())
		}
	}
	close(l.jobs)
	<-l.gone
	sort.Strings(left)
	return left
}

// Process is a child in its own process group. It is killed when the test process dies.
type Process struct {
	name string
	log  string
	pid  int
	done chan struct{} // closed when the child was waited for

	mu  sync.Mutex // held around signals, so that none reaches a pid that was given away again
	err error      // how it ended; read after done
}

// StartProcess runs a child under the rules of this package, for tests that kill or stop a program of ours. It is killed
// and waited for when the test ends. Output that cmd does not send elsewhere goes to a log, shown when the test fails.
func StartProcess(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatalf("testenv: make log of %s: %v", name, err)
	}
	if err := log.Close(); err != nil {
		t.Fatalf("testenv: close log of %s: %v", name, err)
	}
	p, err := shared.launcherFor(t).start(name, cmd, log.Name())
	if err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Errorf("testenv: %v", err)
		}
		p.attachLog(t)
	})
	return p
}

// PID is the process id.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended, nil for exit code 0. It must only be asked after Done.
func (p *Process) Err() error { return p.err }

// LogFile is the path of its output.
func (p *Process) LogFile() string { return p.log }

// Signal sends sig to the process and its children.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return fmt.Errorf("signal %s: %w", p.name, os.ErrProcessDone)
	default:
	}
	if err := syscall.Kill(-p.pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if err := p.kill(); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Logf("testenv: killed %s (pid %d)", p.name, p.pid)
}

// Stop freezes the process with SIGSTOP and returns when the kernel shows it stopped.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := until(ctx, func(context.Context) error { return stopped(p.pid) }); err != nil {
		t.Fatalf("testenv: stop %s: %v", p.name, err)
	}
	t.Logf("testenv: stopped %s (pid %d)", p.name, p.pid)
}

// Cont lets a stopped process continue.
func (p *Process) Cont(t testing.TB) {
	t.Helper()
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatalf("testenv: %v", err)
	}
	t.Logf("testenv: continued %s (pid %d)", p.name, p.pid)
}

// kill sends SIGCONT before SIGKILL, so that a stopped process goes as well, and waits. A process that has ended is fine.
func (p *Process) kill() error {
	for _, sig := range []syscall.Signal{syscall.SIGCONT, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("kill %s: still there after 30s", p.name)
	}
}

// terminate asks with SIGTERM and waits for an orderly end.
func (p *Process) terminate(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("terminate %s: %w", p.name, ctx.Err()), p.kill())
	}
}

// ready asks until the process answers; it gives up at once when the process ends.
func (p *Process) ready(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	watched, end := context.WithCancelCause(ctx)
	defer end(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-p.done:
			end(errEnded)
		case <-over:
		}
	}()
	err := until(watched, ask)
	if err == nil {
		return nil
	}
	return fmt.Errorf("wait for %s: %w (%w)\n%s", p.name, err, context.Cause(watched), tail(p.log, 25))
}

// errEnded: the child ended before it answered, as it does when its port was taken.
var errEnded = errors.New("the process ended")

func (p *Process) attachLog(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", p.name, tail(p.log, 40))
	}
}
