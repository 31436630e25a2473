package kubelet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// RecordsDir holds what a container runtime knows and a kubelet does not keep: which containers run. It outlives the kubelet.
const RecordsDir = "/run/lab/containers"

const logsDir = "/var/log/pods"

// Record is one container of a static pod, as long as its pod is wanted: also after the container has ended, until its successor starts.
type Record struct {
	File           string    `json:"file"` // the manifest's name in the folder
	Hash           string    `json:"hash"` // its SHA-256
	Pod            pod       `json:"pod"`
	Container      container `json:"container"`
	Attempt        int       `json:"attempt"`
	Root           string    `json:"root"`
	Pid            int       `json:"pid"`       // in the node's numbering
	StartTime      string    `json:"startTime"` // of that process, as /proc tells it: tells it from a later one with its number
	Created        time.Time `json:"created"`
	SandboxStopped bool      `json:"sandboxStopped"` // by `crictl stopp`
}

func (r *Record) path() string {
	return filepath.Join(RecordsDir, r.File+"_"+r.Container.Name+".json")
}

// PodID is the id of the pod's sandbox, as a container runtime makes them: 64 hex digits.
func (r *Record) PodID() string { return id("pod", r.File, r.Hash) }

// ID is the container's.
func (r *Record) ID() string {
	return id("container", r.File, r.Hash, r.Container.Name, fmt.Sprint(r.Attempt), r.StartTime)
}

// LogFile is where the output of all containers of the pod goes, whatever became of them.
func (r *Record) LogFile() string { return filepath.Join(logsDir, r.Pod.Metadata.Name+".log") }

// linkLog shows the log where the kubelet has a container's: <namespace>_<pod>_<uid>/<container>/<attempt>.log.
func (r *Record) linkLog() error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	pod := fmt.Sprintf("%s_%s-%s_%s", r.Pod.Metadata.Namespace, r.Pod.Metadata.Name, host, r.Hash[:32])
	link := filepath.Join(logsDir, pod, r.Container.Name, fmt.Sprintf("%d.log", r.Attempt))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join("../..", filepath.Base(r.LogFile())), link); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

func id(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(sum[:])
}

// Runs says whether its process is there.
func (r *Record) Runs() bool { return r.StartTime != "" && startTime(r.Pid) == r.StartTime }

// Save writes it as a whole: whoever reads it finds the old or the new one.
func (r *Record) Save() error {
	if err := os.MkdirAll(RecordsDir, 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	next := r.path() + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, r.path())
}

func (r *Record) remove() error {
	if err := os.Remove(r.path()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.RemoveAll(r.Root)
}

// Records gives all that there are, by name.
func Records() ([]*Record, error) {
	files, err := filepath.Glob(filepath.Join(RecordsDir, "*.json"))
	if err != nil {
		return nil, err
	}
	var records []*Record
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // its pod went between the listing and now
		}
		if err != nil {
			return nil, err
		}
		var each Record
		if err := json.Unmarshal(text, &each); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		records = append(records, &each)
	}
	return records, nil
}

// startTime is field 22 of /proc/<pid>/stat, or "" when there is no such process any more. The name before it may hold blanks and brackets.
func startTime(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// Kill sends the container's process a signal; one that has ended needs none.
func (r *Record) Kill(which unix.Signal) error {
	if !r.Runs() {
		return nil
	}
	if err := unix.Kill(r.Pid, which); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal %s to pid %d: %w", which, r.Pid, err)
	}
	return nil
}
