package kubelet

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	imagePath          = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

type running struct {
	hash    [sha256.Size]byte
	pod     pod
	stopped chan struct{}
	group   sync.WaitGroup
}

func start(manifest manifest) *running {
	each := &running{hash: manifest.hash, pod: manifest.pod, stopped: make(chan struct{})}
	for index := range each.pod.Spec.Containers {
		each.group.Add(1)
		go each.keepRunning(each.pod.Spec.Containers[index])
	}
	return each
}

func (r *running) stop() {
	close(r.stopped)
	r.group.Wait()
}

func (r *running) keepRunning(each container) {
	defer r.group.Done()
	backOff := firstBackOff
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := r.runOnce(each, attempt)
		select {
		case <-r.stopped:
			log.Printf("container %s of %s stopped", each.Name, r.pod.Metadata.Name)
			return
		default:
		}
		if time.Since(started) > provenAfter {
			backOff = firstBackOff
		}
		log.Printf("container %s of %s ended (%v), starting it again in %s", each.Name, r.pod.Metadata.Name, err, backOff)
		select {
		case <-r.stopped:
			return
		case <-time.After(backOff):
		}
		backOff = min(2*backOff, longestBackOff)
	}
}

// What the kubelet tells its child that becomes the container.
type containerSpec struct {
	Root      string    `json:"root"`
	Container container `json:"container"`
	Volumes   []volume  `json:"volumes"`
}

// runOnce gives the container a fresh copy of its image, as a container runtime does, and runs it to its end.
func (r *running) runOnce(each container, attempt int) error {
	image := filepath.Join(imagesDir, each.Image)
	if info, err := os.Stat(image); err != nil || !info.IsDir() {
		return fmt.Errorf("ErrImagePull: no image %s in %s", each.Image, imagesDir)
	}
	root := filepath.Join(containersDir, r.pod.Metadata.Name, fmt.Sprintf("%s-%d", each.Name, attempt))
	if err := copyTree(image, root); err != nil {
		return fmt.Errorf("copy image %s: %w", each.Image, err)
	}
	defer os.RemoveAll(root)
	text, err := json.Marshal(containerSpec{Root: root, Container: each, Volumes: r.pod.Spec.Volumes})
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join("/var/log/pods", r.pod.Metadata.Name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command("/opt/lab/bin/lab", "container")
	command.Stdin = strings.NewReader(string(text))
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	if !r.pod.Spec.HostNetwork {
		return fmt.Errorf("pod %s has no hostNetwork: true, expected it: the lab has no pod network", r.pod.Metadata.Name)
	}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// The parent-death signal is the thread's that started the child: this one stays until the child has ended.
		runtime.LockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			ended <- command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	log.Printf("container %s of %s has pid %d", each.Name, r.pod.Metadata.Name, command.Process.Pid)
	select {
	case err := <-ended:
		return err
	case <-r.stopped:
	}
	grace := defaultGracePeriod
	if seconds := r.pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	signal(command, syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-time.After(grace):
	}
	signal(command, syscall.SIGKILL)
	return <-ended
}

func signal(command *exec.Cmd, which syscall.Signal) {
	if err := command.Process.Signal(which); err != nil && err != os.ErrProcessDone {
		log.Printf("signal %s to pid %d: %v", which, command.Process.Pid, err)
	}
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
