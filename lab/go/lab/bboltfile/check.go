package bboltfile

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	judge = "judge"
	// A sound file of the tests takes milliseconds.
	judgeTimeout = 10 * time.Second
	// A page that is its own child makes bbolt recurse without end: 64 MB of stack are a depth that no tree has.
	maxStack = 64 << 20
	// A damaged count, overflow or loop makes bbolt allocate without end: this much for a file, and some times its size.
	judgeMemory = 192 << 20
	// Each refused file stays mapped, because bbolt's own goroutine may still be in it.
	refusalsPerJudge = 200
	collectFrom      = 64 << 20
	stderrKept       = 4096
)

// Verdict is one line of `lab bbolt check`. The facts are those of `etcdutl snapshot status`, and 0 in what was refused.
type Verdict struct {
	File string `json:"file"`
	OK   bool   `json:"ok"`
	// By what it was refused: open, check (bbolt's own), status (what etcdutl reads after the check), crash or hang.
	By    string `json:"by,omitempty"`
	Error string `json:"error,omitempty"`

	Hash     uint32 `json:"hash"`
	Revision int64  `json:"revision"`
	// Rows of all buckets, which is totalKey up to 3.5, and live keys, which is totalKey from 3.6 on.
	Rows      int   `json:"rows"`
	Live      int   `json:"live"`
	TotalSize int64 `json:"totalSize"`
	PageSize  int   `json:"pageSize"`
	Buckets   int   `json:"buckets"`
}

func refused(file, by string, err any) Verdict {
	return Verdict{File: file, By: by, Error: fmt.Sprint(err)}
}

// check prints a verdict for each file, in order: those of the arguments, else one per line of stdin as they come.
func check(arguments []string) error {
	var court court
	defer court.close()
	out := json.NewEncoder(os.Stdout)
	judge := func(file string) error {
		verdict, err := court.judge(file)
		if err != nil {
			return err
		}
		return out.Encode(verdict)
	}
	for _, file := range arguments {
		if err := judge(file); err != nil {
			return err
		}
	}
	if len(arguments) > 0 {
		return nil
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := judge(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// A court keeps a process that judges: bbolt maps what it reads, so a damaged file can end the process that reads it.
type court struct {
	process  *exec.Cmd
	files    io.WriteCloser
	answers  *bufio.Reader
	stderr   *tail
	judged   int
	refusals int
}

func (c *court) judge(file string) (Verdict, error) {
	// A file that is not there is an error of the caller, not of the file.
	if _, err := os.Stat(file); err != nil {
		return Verdict{}, err
	}
	before := c.judged
	verdict, err := c.judgeOnce(file)
	if err == nil && before > 0 && (verdict.By == "crash" || verdict.By == "hang") {
		// It may be a goroutine that bbolt started for an earlier file: only a process of its own can tell.
		return c.judgeOnce(file)
	}
	return verdict, err
}

func (c *court) judgeOnce(file string) (Verdict, error) {
	if c.process == nil {
		if err := c.open(); err != nil {
			return Verdict{}, err
		}
	}
	process := c.process.Process
	var hung atomic.Bool
	watchdog := time.AfterFunc(judgeTimeout, func() {
		hung.Store(true)
		_ = process.Kill()
	})
	verdict, err := c.ask(file)
	watchdog.Stop()
	c.judged++
	switch {
	case hung.Load():
		c.close()
		return refused(file, "hang", fmt.Sprintf("no verdict within %v", judgeTimeout)), nil
	case err != nil:
		c.close()
		return refused(file, "crash", c.stderr.firstLine()), nil
	case !verdict.OK:
		if c.refusals++; c.refusals == refusalsPerJudge {
			c.close()
		}
	}
	return verdict, nil
}

func (c *court) ask(file string) (verdict Verdict, err error) {
	if _, err := io.WriteString(c.files, file+"\n"); err != nil {
		return verdict, err
	}
	line, err := c.answers.ReadBytes('\n')
	if err != nil {
		return verdict, err
	}
	return verdict, json.Unmarshal(line, &verdict)
}

func (c *court) open() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	process := exec.Command(self, "bbolt", judge)
	c.stderr = &tail{}
	process.Stderr = c.stderr
	if c.files, err = process.StdinPipe(); err != nil {
		return err
	}
	answers, err := process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	c.process, c.answers, c.judged, c.refusals = process, bufio.NewReader(answers), 0, 0
	return nil
}

func (c *court) close() {
	if c.process == nil {
		return
	}
	_ = c.files.Close()
	_ = c.process.Wait()
	c.process, c.judged = nil, 0
}

// tail keeps the beginning of what a crashed process said.
type tail struct{ text []byte }

func (t *tail) Write(bytes []byte) (int, error) {
	if room := stderrKept - len(t.text); room > 0 {
		t.text = append(t.text, bytes[:min(room, len(bytes))]...)
	}
	return len(bytes), nil
}

func (t *tail) firstLine() string {
	for line := range strings.Lines(string(t.text)) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return "ended without a word"
}

// judgeEach is the process that judges: one verdict for each line of stdin.
func judgeEach() error {
	debug.SetPanicOnFault(true)
	debug.SetMaxStack(maxStack)
	// Loops that never end meet the limit of memory at once instead of collecting garbage for seconds.
	debug.SetGCPercent(-1)
	var memory runtime.MemStats
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := limitMemory(lines.Text()); err != nil {
			return err
		}
		if err := out.Encode(judgeOne(lines.Text())); err != nil {
			return err
		}
		if runtime.ReadMemStats(&memory); memory.HeapAlloc > collectFrom {
			runtime.GC()
		}
	}
	return lines.Err()
}

// limitMemory allows as much more memory than there is in use as a sound file of this size can need; bbolt maps up to twice the file.
func limitMemory(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		return err
	}
	limit := pages*uint64(os.Getpagesize()) + judgeMemory + 4*uint64(info.Size())
	return unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: unix.RLIM_INFINITY})
}

func judgeOne(file string) (verdict Verdict) {
	stage := "open"
	defer func() {
		if cause := recover(); cause != nil {
			verdict = refused(file, stage, cause)
		}
	}()
	db, err := bolt.Open(file, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		return refused(file, stage, err)
	}
	tx, err := db.Begin(false)
	if err != nil {
		return refused(file, stage, err)
	}
	stage = "check"
	for err := range tx.Check() {
		// The first is enough; bbolt goes no further, for nobody takes its next one.
		return refused(file, stage, err)
	}
	stage = "status"
	verdict = Verdict{File: file, OK: true, TotalSize: tx.Size(), PageSize: db.Info().PageSize}
	if err := readStatus(tx, &verdict); err != nil {
		return refused(file, stage, err)
	}
	if err := tx.Rollback(); err != nil {
		return refused(file, stage, err)
	}
	if err := db.Close(); err != nil {
		return refused(file, stage, err)
	}
	return verdict
}

// readStatus reads what `etcdutl snapshot status` reads once bbolt's check has passed (etcd: etcdutl/snapshot/v3_snapshot.go).
func readStatus(tx *bolt.Tx, verdict *Verdict) error {
	// From 3.6 on it reads the storage version in there first, and dies without the bucket.
	if tx.Bucket([]byte("meta")) == nil {
		return errors.New("no bucket meta")
	}
	hash := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	live := map[string]struct{}{}
	err := tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
		if bucket == nil {
			return errors.New("a top-level key is no bucket")
		}
		verdict.Buckets++
		hash.Write(name)
		return bucket.ForEach(func(key, value []byte) error {
			hash.Write(key)
			hash.Write(value)
			verdict.Rows++
			if string(name) != "key" {
				return nil
			}
			revision, tombstone, err := parseRevision(key)
			if err != nil {
				return err
			}
			verdict.Revision = revision
			var row mvccpb.KeyValue
			if err := proto.Unmarshal(value, &row); err != nil {
				return err
			}
			if tombstone {
				delete(live, string(row.Key))
			} else {
				live[string(row.Key)] = struct{}{}
			}
			return nil
		})
	})
	verdict.Hash = hash.Sum32()
	verdict.Live = len(live)
	return err
}

// parseRevision reads a row key of etcd's bucket `key`: main revision, '_', sub revision, and 't' for a deletion (etcd:
// server/storage/mvcc/revision.go).
func parseRevision(key []byte) (main int64, tombstone bool, err error) {
	if len(key) != 17 && len(key) != 18 {
		return 0, false, fmt.Errorf("a revision has %d bytes, expected 17 or 18", len(key))
	}
	main = int64(binary.BigEndian.Uint64(key))
	sub := int64(binary.BigEndian.Uint64(key[9:]))
	if key[8] != '_' || main < 0 || sub < 0 {
		return 0, false, errors.New("a revision is none")
	}
	return main, len(key) == 18 && key[17] == 't', nil
}
