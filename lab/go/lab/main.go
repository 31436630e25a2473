// Command lab is the lab's own part of a control-plane node: its init with systemctl and journalctl, its kubelet with crictl, what runs in
// the static pods beside etcd, its port forwarder, its data loader, its watch, and the bbolt that snapshots are held against.
// Which of them it is follows from the name it is started by (`kubelet`), else from the first argument (`lab load ...`).
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"etcd-backup/lab/apiserver"
	"etcd-backup/lab/bboltfile"
	"etcd-backup/lab/controller"
	"etcd-backup/lab/crictl"
	"etcd-backup/lab/forward"
	"etcd-backup/lab/kubelet"
	"etcd-backup/lab/load"
	"etcd-backup/lab/node"
	"etcd-backup/lab/watch"
)

var programs = map[string]func([]string) error{
	"init":                    node.Init,
	"systemctl":               node.Systemctl,
	"journalctl":              node.Journalctl,
	"kubelet":                 kubelet.Run,
	"container":               kubelet.Container,
	"crictl":                  crictl.Run,
	"kube-apiserver":          apiserver.Run,
	"kube-controller-manager": controller.Run,
	"kube-scheduler":          controller.Run,
	"forward":                 forward.Run,
	"load":                    load.Run,
	"watch":                   watch.Run,
	"bbolt":                   bboltfile.Run,
}

func main() {
	name, arguments := filepath.Base(os.Args[0]), os.Args[1:]
	run, known := programs[name]
	if !known && len(arguments) > 0 {
		name, arguments = arguments[0], arguments[1:]
		run, known = programs[name]
	}
	if !known {
		fmt.Fprintf(os.Stderr, "lab: got %q, expected one of %s as first argument\n", strings.Join(os.Args, " "), strings.Join(slices.Sorted(maps.Keys(programs)), ", "))
		os.Exit(2)
	}
	if err := run(arguments); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
