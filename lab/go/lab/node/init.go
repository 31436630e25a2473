// Package node is pid 1 of a lab node: it makes the node's root, starts the kubelet in it and reaps what dies.
package node

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"etcd-backup/lab/mount"

	"golang.org/x/sys/unix"
)

// Path is what a shell of root finds on a node.
const Path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// The kubelet is restarted as systemd's unit of it would do, only sooner.
const kubeletRestart = time.Second

type spec struct {
	Root         string   `json:"root"`         // the node's private root directory on the host
	Hostname     string   `json:"hostname"`     //
	Binary       string   `json:"binary"`       // this program, on the host
	Images       string   `json:"images"`       // directory of image roots, on the host
	StagingBytes int64    `json:"stagingBytes"` // size of a file system of its own at /var/lib/etcd-backup; 0: none
	PidFile      string   `json:"pidFile"`      // gets the pid that the host knows this process by, once the node is made
	Persist      bool     `json:"persist"`      // live on when stdin ends; otherwise the node dies with whoever started it
	Kubelet      []string `json:"kubelet"`      // arguments of the kubelet
}

// Init runs as pid 1 of new mount, pid, uts and ipc namespaces, in the node's network namespace. Its argument is a JSON file.
func Init(arguments []string) error {
	if len(arguments) != 1 || os.Getpid() != 1 {
		return fmt.Errorf("got %d arguments and pid %d, expected one file and pid 1 of a pid namespace (unshare --pid --fork)", len(arguments), os.Getpid())
	}
	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	var node spec
	if err := json.Unmarshal(text, &node); err != nil {
		return fmt.Errorf("%s: %w", arguments[0], err)
	}
	// /proc is still the host's, and tells the host's number of this process.
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	pidFile, err := os.OpenFile(node.PidFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err := makeRoot(node); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(node.Hostname)); err != nil {
		return err
	}
	if !node.Persist {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0) // pid 1 takes the whole node with it
		}()
	}
	if _, err := pidFile.WriteString(self); err != nil {
		return err
	}
	if err := pidFile.Close(); err != nil {
		return err
	}
	return superviseKubelet(node.Kubelet)
}

func makeRoot(node spec) error {
	root := node.Root
	if err := mount.Bind(root, root, false); err != nil {
		return err
	}
	// The programs are the host's, read-only; all else is the node's own.
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		info, err := os.Lstat("/" + name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		target := filepath.Join(root, name)
		if info.Mode()&os.ModeSymlink == 0 {
			if err := mount.Bind("/"+name, target, true); err != nil {
				return err
			}
			continue
		}
		link, err := os.Readlink("/" + name)
		if err != nil {
			return err
		}
		if err := os.Symlink(link, target); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := mount.Kernel(root); err != nil {
		return err
	}
	bin := filepath.Join(root, "opt/lab/bin")
	if err := mount.Bind(node.Binary, filepath.Join(bin, "lab"), true); err != nil {
		return err
	}
	for _, name := range []string{"kubelet", "load"} {
		if err := os.Symlink("lab", filepath.Join(bin, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := mount.Bind(node.Images, filepath.Join(root, "opt/lab/images"), true); err != nil {
		return err
	}
	if node.StagingBytes > 0 {
		staging := filepath.Join(root, "var/lib/etcd-backup")
		if err := os.MkdirAll(staging, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", staging, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size="+strconv.FormatInt(node.StagingBytes, 10)); err != nil {
			return fmt.Errorf("staging of %d bytes: %w", node.StagingBytes, err)
		}
	}
	return mount.Pivot(root)
}

// superviseKubelet keeps a kubelet running and, as pid 1 must, takes the exit status of every orphan.
func superviseKubelet(arguments []string) error {
	var kubelet int
	start := func() error {
		log, err := os.OpenFile("/var/log/kubelet.log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		null, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer null.Close()
		kubelet, err = syscall.ForkExec("/opt/lab/bin/kubelet", append([]string{"/opt/lab/bin/kubelet"}, arguments...), &syscall.ProcAttr{
			Dir:   "/",
			Env:   []string{Path},
			Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
		return err
	}
	if err := start(); err != nil {
		return fmt.Errorf("start the kubelet: %w", err)
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil && err != syscall.ECHILD {
			return fmt.Errorf("wait: %w", err)
		}
		if pid == kubelet || err == syscall.ECHILD {
			time.Sleep(kubeletRestart)
			if err := start(); err != nil {
				return fmt.Errorf("restart the kubelet: %w", err)
			}
		}
	}
}
