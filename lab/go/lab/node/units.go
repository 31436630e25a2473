package node

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Pid 1 listens here for `systemctl`: one line with a verb, answered by one line.
	unitsSocket = "/run/lab/units"
	kubeletLog  = "/var/log/kubelet.log"
	// The kubelet is restarted as systemd's unit of it would do, only sooner.
	kubeletRestart = time.Second
	// As systemd's TimeoutStopSec, only sooner.
	kubeletStop = 10 * time.Second
)

// The kubelet as the unit kubelet.service: enabled, started with the node, restarted when it ends by itself. Its main process alone is
// stopped (KillMode=process), so containers run on.
type unit struct {
	arguments []string

	lock   sync.Mutex
	wanted bool
	pid    int // 0: none
	ended  chan struct{}
}

var kubeletUnit unit

func serveUnits(arguments []string) error {
	kubeletUnit.arguments = arguments
	listener, err := net.Listen("unix", unitsSocket)
	if err != nil {
		return err
	}
	if err := kubeletUnit.start(); err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				log.Printf("%s: %v", unitsSocket, err)
				os.Exit(1) // a node without it is of no use, and pid 1 takes the node with it
			}
			go answer(connection)
		}
	}()
	return nil
}

func answer(connection net.Conn) {
	defer connection.Close()
	verb, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return // the caller was killed
	}
	said := "done"
	switch strings.TrimSpace(verb) {
	case "start":
		err = kubeletUnit.start()
	case "stop":
		err = kubeletUnit.stop()
	case "pid":
		said = fmt.Sprint(kubeletUnit.mainPid())
	default:
		err = fmt.Errorf("unknown verb %q", verb)
	}
	if err != nil {
		said = "error: " + err.Error()
	}
	// A caller that was killed does not read it.
	_, _ = fmt.Fprintln(connection, said)
}

func (u *unit) start() error {
	u.lock.Lock()
	defer u.lock.Unlock()
	u.wanted = true
	return u.run()
}

func (u *unit) mainPid() int {
	u.lock.Lock()
	defer u.lock.Unlock()
	return u.pid
}

// run starts the process unless it is there. The lock is held.
func (u *unit) run() error {
	if u.pid != 0 || !u.wanted {
		return nil
	}
	output, err := os.OpenFile(kubeletLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer null.Close()
	u.pid, err = syscall.ForkExec("/opt/lab/bin/kubelet", append([]string{"/opt/lab/bin/kubelet"}, u.arguments...), &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{Path},
		Files: []uintptr{null.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		u.pid = 0
		return fmt.Errorf("start the kubelet: %w", err)
	}
	u.ended = make(chan struct{})
	return nil
}

// stop returns when the process is gone.
func (u *unit) stop() error {
	u.lock.Lock()
	u.wanted = false
	pid, ended := u.pid, u.ended
	u.lock.Unlock()
	if pid == 0 {
		return nil
	}
	for _, which := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.Kill(pid, which); err != nil && err != unix.ESRCH {
			return fmt.Errorf("signal %s to the kubelet: %w", which, err)
		}
		select {
		case <-ended:
			return nil
		case <-time.After(kubeletStop):
		}
	}
	return fmt.Errorf("the kubelet with pid %d is there %s after SIGKILL", pid, kubeletStop)
}

// exited is told of every process that ended.
func (u *unit) exited(pid int) {
	u.lock.Lock()
	defer u.lock.Unlock()
	if pid != u.pid {
		return
	}
	u.pid = 0
	close(u.ended)
	if !u.wanted {
		return
	}
	time.AfterFunc(kubeletRestart, func() {
		u.lock.Lock()
		defer u.lock.Unlock()
		if err := u.run(); err != nil {
			log.Print(err)
			os.Exit(1)
		}
	})
}

// reap takes, as pid 1 must, the exit status of every child and orphan.
func reap() error {
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		switch err {
		case nil:
			kubeletUnit.exited(pid)
		case syscall.EINTR:
		case syscall.ECHILD:
			// Only while the kubelet is stopped or about to be restarted.
			time.Sleep(10 * time.Millisecond)
		default:
			return fmt.Errorf("wait: %w", err)
		}
	}
}

// Systemctl stands in for systemd's own, for the one unit that there is. Exit codes and words are systemd's, as far as scripts look at them.
func Systemctl(arguments []string) error {
	quiet, verb, units := false, "", []string{}
	for _, argument := range arguments {
		switch {
		case argument == "--quiet" || argument == "-q":
			quiet = true
		case strings.HasPrefix(argument, "-"):
			return fmt.Errorf("unrecognized option '%s'; the lab's systemctl knows --quiet", argument)
		case verb == "":
			verb = argument
		default:
			units = append(units, strings.TrimSuffix(argument, ".service"))
		}
	}
	if len(units) != 1 {
		return fmt.Errorf("got units %q, expected one; the lab's systemctl knows kubelet", units)
	}
	known := units[0] == "kubelet"
	say := func(word string, code int) {
		if !quiet {
			fmt.Println(word)
		}
		os.Exit(code)
	}
	switch verb {
	case "start", "stop", "restart":
		if !known {
			fmt.Fprintf(os.Stderr, "Failed to %s %s.service: Unit %s.service not found.\n", verb, units[0], units[0])
			os.Exit(5)
		}
		if verb != "start" {
			if _, err := ask("stop"); err != nil {
				return err
			}
		}
		if verb != "stop" {
			_, err := ask("start")
			return err
		}
		return nil
	case "is-active":
		if !known {
			say("inactive", 4)
		}
		pid, err := ask("pid")
		if err != nil {
			return err
		}
		if pid == "0" {
			say("inactive", 3)
		}
		say("active", 0)
	case "is-enabled":
		if !known {
			fmt.Fprintf(os.Stderr, "Failed to get unit file state for %s.service: No such file or directory\n", units[0])
			os.Exit(1)
		}
		say("enabled", 0)
	}
	return fmt.Errorf("unknown command verb %s; the lab's systemctl knows start, stop, restart, is-active and is-enabled", verb)
}

// Journalctl stands in for systemd's own: the end of the kubelet's log, which is all that the lab's journal has.
func Journalctl(arguments []string) error {
	flags := flag.NewFlagSet("journalctl", flag.ContinueOnError)
	var unit string
	var lines int
	for _, name := range []string{"unit", "u"} {
		flags.StringVar(&unit, name, "", "kubelet or kubelet.service")
	}
	for _, name := range []string{"lines", "n"} {
		flags.IntVar(&lines, name, 10, "lines from the end")
	}
	flags.Bool("no-pager", false, "accepted; there is none")
	for _, name := range []string{"output", "o"} {
		flags.String(name, "", "accepted; the kubelet's lines have their time as they are")
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if strings.TrimSuffix(unit, ".service") != "kubelet" || flags.NArg() > 0 || lines < 0 {
		return fmt.Errorf("got unit %q, %d lines and words %q; the lab's journalctl knows --unit kubelet --lines <number>", unit, lines, flags.Args())
	}
	text, err := os.ReadFile(kubeletLog)
	if err != nil {
		return err
	}
	all := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	fmt.Println(strings.Join(all[max(0, len(all)-lines):], ""))
	return nil
}

func ask(verb string) (string, error) {
	connection, err := net.Dial("unix", unitsSocket)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := fmt.Fprintln(connection, verb); err != nil {
		return "", err
	}
	said, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("pid 1 did not answer %s: %w", verb, err)
	}
	said = strings.TrimSpace(said)
	if problem, failed := strings.CutPrefix(said, "error: "); failed {
		return "", fmt.Errorf("%s", problem)
	}
	return said, nil
}
