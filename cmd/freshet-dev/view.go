package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/demo"
	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
)

const (
	viewEvery = 200 * time.Millisecond
	faultFor  = 8 * time.Second // how long a key press cuts a node off or drops its messages
	// pauseFor is how long a key press pauses a node: longer than a person needs to see it reported as silent, which it is
	// after seven to ten seconds.
	pauseFor   = 20 * time.Second
	viewEvents = 6 // newest events shown
)

// view draws the shop until the time is over, the user quits, or the shop ends.
func (p *program) view(ctx context.Context, stack *devstack.Stack, s *demo.Shop, until <-chan time.Time, ended chan error) error {
	m := &model{ctx: ctx, stack: stack, shop: s, console: p.console, snap: s.Snapshot()}
	prog := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(p.in), tea.WithOutput(p.out))
	quit := make(chan error, 1)
	go func() {
		_, err := prog.Run()
		quit <- err
	}()
	orderly := func(err error) error { // an interrupt is how people leave
		if err == nil || errors.Is(err, tea.ErrProgramKilled) || errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
			return nil //nolint:nilerr // see above
		}
		return err
	}
	select {
	case err := <-quit:
		return orderly(err)
	case <-until:
		prog.Quit()
		return orderly(<-quit)
	case err := <-ended:
		ended <- err
		prog.Quit()
		return errors.Join(errors.New("the shop ended early"), err, orderly(<-quit))
	}
}

// model is the live view.
type model struct {
	ctx     context.Context //nolint:containedctx // the program's life, for key presses
	stack   *devstack.Stack
	shop    *demo.Shop
	console string
	snap    demo.Snapshot
	before  demo.Snapshot
	perSec  float64
	victim  int
	message string
}

type tickMsg time.Time

// plantedMsg is the end of planting a stale copy.
type plantedMsg struct{ err error }

func tick() tea.Cmd { return tea.Tick(viewEvery, func(t time.Time) tea.Msg { return tickMsg(t) }) }

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return tick() }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tickMsg:
		m.snap = m.shop.Snapshot()
		if d := m.snap.Elapsed - m.before.Elapsed; d >= time.Second {
			m.perSec = float64(m.snap.Published-m.before.Published) / d.Seconds()
			m.before = m.snap
		}
		return m, tick()
	case plantedMsg:
		if msg.err != nil {
			m.message = msg.err.Error()
		}
	case tea.KeyPressMsg:
		return m.press(msg.String())
	}
	return m, nil
}

func (m *model) press(key string) (tea.Model, tea.Cmd) {
	var err error
	switch key {
	case "q", "ctrl+c", "esc":
		return m, tea.Quit
	case "tab", "n":
		m.victim = (m.victim + 1) % max(1, len(m.snap.Nodes))
	case "p":
		err = m.shop.PauseNode(m.victim, pauseFor)
	case "d":
		err = m.shop.DropMessages(m.victim, faultFor)
	case "c":
		err = m.shop.CutNode(m.victim, faultFor)
	case "k":
		err = m.shop.KillWorker()
	case "f":
		err = m.shop.FlushRedis(m.ctx)
	case "s":
		return m, func() tea.Msg { return plantedMsg{m.shop.PlantStale(m.ctx)} }
	case "x":
		m.shop.SetChaos(!m.snap.Chaos)
	}
	m.message = ""
	if err != nil {
		m.message = err.Error()
	}
	return m, nil
}

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(m.render())
	v.AltScreen = true
	v.WindowTitle = "freshet-dev"
	return v
}

func (m *model) render() string {
	bold, dim := lipgloss.NewStyle().Bold(true), lipgloss.NewStyle().Faint(true)
	good, bad := lipgloss.NewStyle().Foreground(lipgloss.Green), lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true)
	s := m.snap
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n\n", bold.Render("freshet-dev"), dim.Render(fmt.Sprintf("%.0fs · Kafka %s · Redis %s · embedded", s.Elapsed.Seconds(), m.stack.Kafka, m.stack.Redis)))
	fmt.Fprintf(&b, "  console       %s\n\n", bold.Render(m.console))
	stale := good.Render("0")
	if n := s.StaleBeyondBound + s.Wrong; n > 0 {
		stale = bad.Render(fmt.Sprint(n))
	}
	fmt.Fprintf(&b, "  events/s      %-8.0f published %-9d applied %-9d dead letters %d\n", m.perSec, s.Published, s.Applied, max(0, s.DeadLettered))
	fmt.Fprintf(&b, "  visible       p50 %-10v p99 %v  %s\n", s.PublishToVisibleP50.Round(100*time.Microsecond), s.PublishToVisibleP99.Round(100*time.Microsecond), dim.Render("publish → applied on every node"))
	fmt.Fprintf(&b, "  reads         %-9d hits %.1f%%\n", s.Reads, percent(s.Hits, s.Reads))
	fmt.Fprintf(&b, "  stale reads   %s  %s\n\n", stale, dim.Render("past the bound; must stay 0"))
	for i, n := range s.Nodes {
		mark := "  "
		if i == m.victim {
			mark = "▸ "
		}
		fmt.Fprintf(&b, "%snode %d  entries %-6d hits %.1f%%  %s\n", mark, i, n.Entries, percent(n.LocalHits, n.Reads), nodeState(n, good, bad))
	}
	b.WriteString("\n")
	for _, e := range s.Events[max(0, len(s.Events)-viewEvents):] {
		fmt.Fprintf(&b, "  %s %s\n", dim.Render(e.At.Format("15:04:05")), e.Text)
	}
	if m.message != "" {
		fmt.Fprintf(&b, "  %s\n", bad.Render(m.message))
	}
	chaos := "on"
	if s.Chaos {
		chaos = "off"
	}
	fmt.Fprintf(&b, "\n%s\n", dim.Render("[tab] node  [p] pause  [d] drop messages  [c] cut off  [k] kill worker  [f] flush Redis  [s] stale copy  [x] chaos "+chaos+"  [q] end"))
	return b.String()
}

func nodeState(n demo.NodeSnapshot, good, bad lipgloss.Style) string {
	var what []string
	if n.Paused {
		what = append(what, "paused")
	}
	if n.Cut {
		what = append(what, "cut off")
	}
	if n.Dropping {
		what = append(what, "losing messages")
	}
	fresh := len(n.Node.Lanes) > 0
	var gaps, caught int64
	for _, l := range n.Node.Lanes {
		fresh = fresh && l.Fresh
		gaps += l.Gaps
		caught += l.CaughtUp
	}
	if !fresh {
		what = append(what, "bypasses its cache")
	}
	state := good.Render("fresh")
	if len(what) > 0 {
		state = bad.Render(strings.Join(what, ", "))
	}
	return fmt.Sprintf("%s  gaps %d, caught up %d", state, gaps, caught)
}
