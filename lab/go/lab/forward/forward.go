// Package forward lets a node reach what listens on the host's loopback, as if it were the node's own.
package forward

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Run listens on 127.0.0.1:port inside a network namespace and connects each caller to 127.0.0.1:port outside. A socket belongs to
// the namespace it was made in, so one process can hold both ends and copy bytes at the kernel's speed.
func Run(arguments []string) error {
	flags := flag.NewFlagSet("forward", flag.ContinueOnError)
	namespace := flags.String("netns", "", "file of the network namespace to listen in")
	port := flags.Int("port", 0, "port on 127.0.0.1 on both sides")
	persist := flags.Bool("persist", false, "live on when stdin ends")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *namespace == "" || *port <= 0 || *port > 65535 {
		return fmt.Errorf("got --netns=%q --port=%d, expected a namespace's file and a port", *namespace, *port)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(*port))
	listener, err := listenIn(*namespace, address)
	if err != nil {
		return err
	}
	if !*persist {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	fmt.Println("listening")
	for {
		inside, err := listener.Accept()
		if err != nil {
			return err
		}
		go connect(inside, address)
	}
}

func listenIn(namespace, address string) (net.Listener, error) {
	type answer struct {
		listener net.Listener
		err      error
	}
	answers := make(chan answer)
	go func() {
		// Never unlocked: the thread has changed its namespace and must not serve anything else. Go ends it with the goroutine.
		runtime.LockOSThread()
		file, err := os.Open(namespace)
		if err != nil {
			answers <- answer{nil, err}
			return
		}
		defer file.Close()
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			answers <- answer{nil, fmt.Errorf("enter %s: %w", namespace, err)}
			return
		}
		listener, err := net.Listen("tcp4", address)
		answers <- answer{listener, err}
	}()
	result := <-answers
	return result.listener, result.err
}

func connect(inside net.Conn, address string) {
	outside, err := net.Dial("tcp4", address)
	if err != nil {
		// The caller sees what it would see without us: a connection that is refused or reset.
		if tcp, ok := inside.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		inside.Close()
		return
	}
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if tcp, ok := to.(*net.TCPConn); ok && err == nil {
			_ = tcp.CloseWrite() // the other direction may still have an answer to give
		} else {
			to.Close()
			from.Close()
		}
		done <- struct{}{}
	}
	go pipe(outside, inside)
	go pipe(inside, outside)
	<-done
	<-done
	inside.Close()
	outside.Close()
}
