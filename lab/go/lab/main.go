// Command lab is the lab's own part of a control-plane node: its init, its kubelet, its port forwarder, its data loader, and
// the bbolt that snapshots are held against.
// Which of them it is follows from the name it is started by (`kubelet`), else from the first argument (`lab load ...`).
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"etcd-backup/lab/bboltfile"
	"etcd-backup/lab/forward"
	"etcd-backup/lab/kubelet"
	"etcd-backup/lab/load"
	"etcd-backup/lab/node"
)

var programs = map[string]func([]string) error{
	"init":      node.Init,
	"kubelet":   kubelet.Run,
	"container": kubelet.Container,
	"forward":   forward.Run,
	"load":      load.Run,
	"bbolt":     bboltfile.Run,
}

func main() {
	name, arguments := filepath.Base(os.Args[0]), os.Args[1:]
	run, known := programs[name]
	if !known && len(arguments) > 0 {
		name, arguments = arguments[0], arguments[1:]
		run, known = programs[name]
	}
	if !known {
		fmt.Fprintf(os.Stderr, "lab: got %q, expected init, kubelet, container, forward, load or bbolt as first argument\n", strings.Join(os.Args, " "))
		os.Exit(2)
	}
	if err := run(arguments); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
