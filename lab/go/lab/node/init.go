// Package node is pid 1 of a lab node: it makes the node's root, starts the kubelet in it and reaps what dies.
package node

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"etcd-backup/lab/mount"

	"golang.org/x/sys/unix"
)

// Path is what a shell of root finds on a node.
const Path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

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
	if err := serveUnits(node.Kubelet); err != nil {
		return err
	}
	if _, err := pidFile.WriteString(self); err != nil {
		return err
	}
	if err := pidFile.Close(); err != nil {
		return err
	}
	return reap()
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
	for _, name := range []string{"kubelet", "load", "watch"} {
		if err := os.Symlink("lab", filepath.Join(bin, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := makeLocal(root); err != nil {
		return err
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
	// As systemd has it: memory. What the lab itself keeps there lies on the host's disk, where its tests reach it.
	run := filepath.Join(root, "run")
	lab := filepath.Join(root, "opt/lab/run")
	if err := os.MkdirAll(lab, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=64m"); err != nil {
		return fmt.Errorf("mount %s: %w", run, err)
	}
	if err := mount.Bind(lab, filepath.Join(run, "lab"), false); err != nil {
		return err
	}
	return mount.Pivot(root)
}

// makeLocal gives the node a /usr/local of its own: the host's, but for /usr/local/sbin, which is the node's directory /opt/lab/sbin. It comes
// first in everybody's PATH, so what stands in for systemd and the container runtime wins over what the host may have.
func makeLocal(root string) error {
	sbin := filepath.Join(root, "opt/lab/sbin")
	if err := os.MkdirAll(sbin, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"systemctl", "journalctl", "crictl", "kubelet"} {
		if err := os.Symlink("/opt/lab/bin/lab", filepath.Join(sbin, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	const local = "/usr/local"
	entries, err := os.ReadDir(local)
	if err != nil {
		return err
	}
	target := filepath.Join(root, local)
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	for _, entry := range entries {
		if entry.Name() == "sbin" {
			continue
		}
		from, to := filepath.Join(local, entry.Name()), filepath.Join(target, entry.Name())
		if entry.Type()&os.ModeSymlink == 0 {
			if err := mount.Bind(from, to, true); err != nil {
				return err
			}
			continue
		}
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(link, to); err != nil {
			return err
		}
	}
	if err := mount.Bind(sbin, filepath.Join(target, "sbin"), false); err != nil {
		return err
	}
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("read-only %s: %w", target, err)
	}
	return nil
}
