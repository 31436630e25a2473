package kubelet

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"etcd-backup/lab/mount"

	"golang.org/x/sys/unix"
)

const (
	containersDir  = "/var/lib/kubelet/lab-containers"
	firstBackOff   = time.Second
	longestBackOff = 10 * time.Second
	// A container that ran this long has proven itself: the next crash starts from the first back-off.
	provenAfter        = 30 * time.Second
	defaultGracePeriod = 30 * time.Second
	endedPollInterval  = 50 * time.Millisecond
	imagePath          = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// A pod that is wanted, or that was when the kubelet began to ignore that manifests go.
type running struct {
	file    string
	hash    string
	pod     pod
	stopped chan struct{}
	group   sync.WaitGroup
}

// start runs a pod's containers. Those in `found` are there already, from an earlier kubelet's time; they are adopted, not started.
func start(file string, manifest manifest, found map[string]*Record) *running {
	each := &running{file: file, hash: manifest.hash, pod: manifest.pod, stopped: make(chan struct{})}
	for index := range each.pod.Spec.Containers {
		container := each.pod.Spec.Containers[index]
		each.group.Add(1)
		go each.keepRunning(container, found[container.Name])
	}
	return each
}

func (r *running) stop() {
	close(r.stopped)
	r.group.Wait()
}

// keepRunning runs a container until its pod is to stop, one attempt after the other; record is that of an earlier attempt, or nil.
func (r *running) keepRunning(each container, record *Record) {
	defer r.group.Done()
	backOff := firstBackOff
	for {
		started := time.Now()
		next, err := r.runOnce(each, record)
		if next != nil {
			record = next
		}
		if time.Since(started) > provenAfter {
			backOff = firstBackOff
		}
		if !r.isStopped() {
			log.Printf("container %s of %s ended (%v), starting it again in %s", each.Name, r.pod.Metadata.Name, err, backOff)
		}
		select {
		case <-r.stopped:
			if record != nil {
				err = record.remove()
			}
			log.Printf("container %s of %s stopped (%v)", each.Name, r.pod.Metadata.Name, err)
			return
		case <-time.After(backOff):
		}
		backOff = min(2*backOff, longestBackOff)
	}
}

func (r *running) isStopped() bool {
	select {
	case <-r.stopped:
		return true
	default:
		return false
	}
}

// runOnce returns when the container has ended: the one of the record if it still runs, else a new one, whose record it gives.
func (r *running) runOnce(each container, record *Record) (*Record, error) {
	if record == nil || !record.Runs() {
		attempt := 0
		if record != nil {
			attempt = record.Attempt + 1
			if err := record.remove(); err != nil {
				return nil, err
			}
		}
		var err error
		if record, err = r.startContainer(each, attempt); err != nil {
			return record, err
		}
	}
	log.Printf("container %s of %s has pid %d", each.Name, r.pod.Metadata.Name, record.Pid)
	return record, r.watch(record)
}

// watch returns when the container has ended; it ends it itself once the pod is to stop.
func (r *running) watch(record *Record) error {
	for record.Runs() {
		if r.isStopped() {
			grace := defaultGracePeriod
			if seconds := r.pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
				grace = time.Duration(*seconds) * time.Second
			}
			return record.Terminate(grace)
		}
		time.Sleep(endedPollInterval)
	}
	return nil
}

// Terminate asks the container's process to end, and after the grace period makes it.
func (r *Record) Terminate(grace time.Duration) error {
	if err := r.Kill(unix.SIGTERM); err != nil {
		return err
	}
	for deadline := time.Now().Add(grace); r.Runs() && time.Now().Before(deadline); {
		time.Sleep(endedPollInterval)
	}
	if err := r.Kill(unix.SIGKILL); err != nil {
		return err
	}
	for r.Runs() {
		time.Sleep(endedPollInterval)
	}
	return nil
}

// What the kubelet tells its child that becomes the container.
type containerSpec struct {
	Root      string    `json:"root"`
	Container container `json:"container"`
	Volumes   []volume  `json:"volumes"`
}

// startContainer gives the container a fresh copy of its image, as a container runtime does, and starts it there. It lives on when the
// kubelet ends: the node's pid 1 inherits it.
func (r *running) startContainer(each container, attempt int) (*Record, error) {
	if !r.pod.Spec.HostNetwork {
		return nil, fmt.Errorf("pod %s has no hostNetwork: true, expected it: the lab has no pod network", r.pod.Metadata.Name)
	}
	image := filepath.Join(ImagesDir, each.Image)
	if info, err := os.Stat(image); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("ErrImagePull: no image %s in %s", each.Image, ImagesDir)
	}
	record := &Record{
		File: r.file, Hash: r.hash, Pod: r.pod, Container: each, Attempt: attempt, Created: time.Now().UTC(),
		Root: filepath.Join(containersDir, r.file, fmt.Sprintf("%s-%d", each.Name, attempt)),
	}
	// Half a copy may be there, of a kubelet that ended while it made it.
	if err := os.RemoveAll(record.Root); err != nil {
		return nil, err
	}
	if err := copyTree(image, record.Root); err != nil {
		return nil, fmt.Errorf("copy image %s: %w", each.Image, err)
	}
	text, err := json.Marshal(containerSpec{Root: record.Root, Container: each, Volumes: r.pod.Spec.Volumes})
	if err != nil {
		return nil, err
	}
	output, err := os.OpenFile(record.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	if err := record.linkLog(); err != nil {
		return nil, err
	}
	command := exec.Command("/opt/lab/bin/lab", "container")
	spec, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	go func() { _ = command.Wait() }() // only takes its exit status: how it ended is of no use to anyone
	// It does nothing before it has the spec. A kubelet that ends before that leaves none that it has not written down.
	record.Pid, record.StartTime = command.Process.Pid, startTime(command.Process.Pid)
	if err := record.Save(); err != nil {
		spec.Close()
		return nil, err
	}
	if _, err := spec.Write(text); err != nil {
		return record, err
	}
	return record, spec.Close()
}

// Container is the first thing that runs in a container's namespaces: it makes the root from the spec on stdin and becomes the command.
func Container(arguments []string) error {
	if len(arguments) != 0 || os.Getpid() != 1 {
		return fmt.Errorf("got %d arguments and pid %d, expected none and pid 1; the kubelet starts this", len(arguments), os.Getpid())
	}
	var spec containerSpec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("spec on stdin: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := mount.Bind(spec.Root, spec.Root, false); err != nil {
		return err
	}
	if err := mount.Kernel(spec.Root); err != nil {
		return err
	}
	// With hostNetwork the kubelet gives the pod the host's names.
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} {
		if err := copyFile("/etc/"+name, filepath.Join(spec.Root, "etc", name), 0o644); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if err := bindVolumes(spec); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(spec.Root, "tmp"), 0o1777); err != nil {
		return err
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	if err := mount.Pivot(spec.Root); err != nil {
		return err
	}
	if err := unix.Dup2(int(null.Fd()), 0); err != nil {
		return err
	}
	argv := append(append([]string{}, spec.Container.Command...), spec.Container.Args...)
	if len(argv) == 0 {
		return fmt.Errorf("container %s has no command, expected one: the lab's images have no entry point", spec.Container.Name)
	}
	environment := []string{imagePath}
	for _, each := range spec.Container.Env {
		environment = append(environment, each.Name+"="+each.Value)
	}
	if spec.Container.WorkingDir != "" {
		if err := os.Chdir(spec.Container.WorkingDir); err != nil {
			return err
		}
	}
	if err := os.Setenv("PATH", strings.TrimPrefix(imagePath, "PATH=")); err != nil {
		return err
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("container %s: %w", spec.Container.Name, err)
	}
	return unix.Exec(program, argv, environment)
}

func bindVolumes(spec containerSpec) error {
	for _, each := range spec.Container.VolumeMounts {
		var source *hostPath
		for _, volume := range spec.Volumes {
			if volume.Name == each.Name {
				source = volume.HostPath
			}
		}
		if source == nil {
			return fmt.Errorf("volumeMount %s of container %s names no hostPath volume of the pod; the lab has no other kind", each.Name, spec.Container.Name)
		}
		if source.Type == "DirectoryOrCreate" {
			if err := os.MkdirAll(source.Path, 0o700); err != nil {
				return err
			}
		}
		if err := mount.Bind(source.Path, filepath.Join(spec.Root, each.MountPath), each.ReadOnly); err != nil {
			return err
		}
	}
	return nil
}

func copyTree(from, to string) error {
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch {
		case info.IsDir():
			return os.MkdirAll(target, 0o755)
		case info.Mode()&os.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		default:
			return copyFile(path, target, info.Mode().Perm())
		}
	})
}

func copyFile(from, to string, mode os.FileMode) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
