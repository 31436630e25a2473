// Package crictl stands in for the container runtime's crictl, over what the lab's kubelet writes down. Field names and ids are CRI's; a
// command or a flag that it does not know is an error.
package crictl

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"etcd-backup/lab/kubelet"
)

var commands = map[string]func([]string) error{
	"pods": pods, "stopp": stopp, "ps": ps, "inspect": inspect, "logs": logs, "images": images, "inspecti": inspecti,
}

// Run takes crictl's command line.
func Run(arguments []string) error {
	flags := flag.NewFlagSet("crictl", flag.ContinueOnError)
	for _, name := range []string{"runtime-endpoint", "r", "image-endpoint", "i", "timeout", "t", "config", "c"} {
		flags.String(name, "", "accepted; there is one runtime here")
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	run, known := commands[flags.Arg(0)]
	if !known {
		return fmt.Errorf("no command %q; the lab's crictl knows pods, stopp, ps, inspect, logs, images and inspecti", flags.Arg(0))
	}
	return run(flags.Args()[1:])
}

type listing struct {
	*flag.FlagSet
	quiet, all                          bool
	output, name, namespace, state, pod string
	labels                              []string
}

// has tells whether something carries all the labels that were asked for.
func (l *listing) has(labels map[string]string) bool {
	for _, label := range l.labels {
		if name, value, _ := strings.Cut(label, "="); labels[name] != value {
			return false
		}
	}
	return true
}

// parse takes flags and other words in any order, as crictl does.
func parse(command string, arguments []string) (*listing, []string, error) {
	l := &listing{FlagSet: flag.NewFlagSet("crictl "+command, flag.ContinueOnError)}
	for _, name := range []string{"q", "quiet"} {
		l.BoolVar(&l.quiet, name, false, "only ids")
	}
	for _, name := range []string{"a", "all"} {
		l.BoolVar(&l.all, name, false, "also containers that have ended")
	}
	for _, name := range []string{"o", "output"} {
		l.StringVar(&l.output, name, "table", "json or table")
	}
	for _, name := range []string{"s", "state"} {
		l.StringVar(&l.state, name, "", "Ready or NotReady; Running or Exited")
	}
	for _, name := range []string{"p", "pod"} {
		l.StringVar(&l.pod, name, "", "id of a pod")
	}
	l.StringVar(&l.name, "name", "", "regular expression")
	l.StringVar(&l.namespace, "namespace", "", "namespace")
	l.Func("label", "name=value; may be given several times", func(label string) error {
		l.labels = append(l.labels, label)
		return nil
	})
	var words []string
	for {
		if err := l.Parse(arguments); err != nil {
			return nil, nil, err
		}
		if l.NArg() == 0 {
			break
		}
		words, arguments = append(words, l.Arg(0)), l.Args()[1:]
	}
	if l.output != "table" && l.output != "json" {
		return nil, nil, fmt.Errorf("output is %q, expected json or table", l.output)
	}
	return l, words, nil
}

type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Attempt   int    `json:"attempt"`
}

type item struct {
	ID           string            `json:"id"`
	PodSandboxID string            `json:"podSandboxId,omitempty"`
	Metadata     metadata          `json:"metadata"`
	Image        map[string]string `json:"image,omitempty"`
	State        string            `json:"state"`
	CreatedAt    string            `json:"createdAt"`
	Labels       map[string]string `json:"labels"`
}

// list prints what is left of the items after the filters, newest first.
func (l *listing) list(field string, items []item, states map[string]string) error {
	pattern, err := regexp.Compile(l.name)
	if err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	wanted, known := states[strings.ToLower(l.state)]
	if !known {
		return fmt.Errorf("--state is %q, which crictl does not know for %s", l.state, field)
	}
	left := []item{}
	for _, each := range items {
		if pattern.MatchString(each.Metadata.Name) && (l.namespace == "" || l.namespace == each.Metadata.Namespace) &&
			(wanted == "" || wanted == each.State) && l.has(each.Labels) && strings.HasPrefix(each.PodSandboxID, l.pod) {
			left = append(left, each)
		}
	}
	switch {
	case l.quiet:
		for _, each := range left {
			fmt.Println(each.ID)
		}
	case l.output == "json":
		return encode(map[string]any{field: left})
	default:
		for _, each := range left {
			fmt.Printf("%-14.13s%-20s%-20s%s\n", each.ID, each.CreatedAt[:19], each.State, each.Metadata.Name)
		}
	}
	return nil
}

func encode(value any) error {
	say := json.NewEncoder(os.Stdout)
	say.SetIndent("", "  ")
	return say.Encode(value)
}

// The kubelet calls a static pod after its node, too.
func podName(record *kubelet.Record) (string, error) {
	host, err := os.Hostname()
	return record.Pod.Metadata.Name + "-" + host, err
}

func labels(record *kubelet.Record, pod string) map[string]string {
	all := map[string]string{
		"io.kubernetes.pod.name": pod, "io.kubernetes.pod.namespace": record.Pod.Metadata.Namespace, "io.kubernetes.container.name": record.Container.Name,
	}
	for name, value := range record.Pod.Metadata.Labels {
		all[name] = value
	}
	return all
}

func pods(arguments []string) error {
	l, _, err := parse("pods", arguments)
	if err != nil {
		return err
	}
	records, err := kubelet.Records()
	if err != nil {
		return err
	}
	var items []item
	seen := map[string]bool{}
	for _, record := range records {
		if seen[record.PodID()] {
			continue
		}
		seen[record.PodID()] = true
		name, err := podName(record)
		if err != nil {
			return err
		}
		// A sandbox stays ready when its containers have ended.
		state := "SANDBOX_READY"
		if record.SandboxStopped {
			state = "SANDBOX_NOTREADY"
		}
		items = append(items, item{
			ID: record.PodID(), Metadata: metadata{name, record.Pod.Metadata.Namespace, 0}, State: state,
			CreatedAt: record.Created.Format(time.RFC3339Nano), Labels: labels(record, name),
		})
	}
	return l.list("items", items, map[string]string{"": "", "ready": "SANDBOX_READY", "notready": "SANDBOX_NOTREADY"})
}

func ps(arguments []string) error {
	l, _, err := parse("ps", arguments)
	if err != nil {
		return err
	}
	records, err := kubelet.Records()
	if err != nil {
		return err
	}
	var items []item
	for _, record := range records {
		state := "CONTAINER_EXITED"
		if record.Runs() {
			state = "CONTAINER_RUNNING"
		} else if !l.all && l.state == "" {
			continue
		}
		name, err := podName(record)
		if err != nil {
			return err
		}
		items = append(items, item{
			ID: record.ID(), PodSandboxID: record.PodID(), Metadata: metadata{record.Container.Name, "", record.Attempt},
			Image: map[string]string{"image": record.Container.Image}, State: state,
			CreatedAt: record.Created.Format(time.RFC3339Nano), Labels: labels(record, name),
		})
	}
	return l.list("containers", items, map[string]string{"": "", "running": "CONTAINER_RUNNING", "exited": "CONTAINER_EXITED"})
}

// one finds what an id, or its beginning, means.
func one(kind, wanted string, of func(*kubelet.Record) string) ([]*kubelet.Record, error) {
	records, err := kubelet.Records()
	if err != nil {
		return nil, err
	}
	var found []*kubelet.Record
	for _, record := range records {
		if wanted != "" && strings.HasPrefix(of(record), wanted) {
			found = append(found, record)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no %s with id %q", kind, wanted)
	}
	return found, nil
}

// stopp ends all processes of the pods at once, as a runtime does without a grace period, and marks the sandboxes.
func stopp(arguments []string) error {
	_, ids, err := parse("stopp", arguments)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fmt.Errorf("got no id, expected those of pods")
	}
	for _, id := range ids {
		records, err := one("pod", id, (*kubelet.Record).PodID)
		if err != nil {
			return err
		}
		for _, record := range records {
			record.SandboxStopped = true
			if err := record.Save(); err != nil {
				return err
			}
			if err := record.Terminate(0); err != nil {
				return err
			}
		}
		fmt.Printf("Stopped sandbox %s\n", id)
	}
	return nil
}

func inspect(arguments []string) error {
	_, ids, err := parse("inspect", arguments)
	if err != nil {
		return err
	}
	for _, id := range ids {
		records, err := one("container", id, (*kubelet.Record).ID)
		if err != nil {
			return err
		}
		record := records[0]
		state, pid := "CONTAINER_EXITED", 0
		if record.Runs() {
			state, pid = "CONTAINER_RUNNING", record.Pid
		}
		if err := encode(map[string]any{
			"status": map[string]any{
				"id": record.ID(), "metadata": metadata{record.Container.Name, "", record.Attempt}, "state": state,
				"createdAt": record.Created.Format(time.RFC3339Nano), "image": map[string]string{"image": record.Container.Image}, "logPath": record.LogFile(),
			},
			"info": map[string]any{"sandboxID": record.PodID(), "pid": pid},
		}); err != nil {
			return err
		}
	}
	return nil
}

// logs prints a container's log: here all attempts of a pod write into one.
func logs(arguments []string) error {
	flags := flag.NewFlagSet("crictl logs", flag.ContinueOnError)
	tail := flags.Int("tail", -1, "lines from the end; -1: all")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	records, err := one("container", flags.Arg(0), (*kubelet.Record).ID)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(records[0].LogFile())
	if err != nil {
		return err
	}
	if *tail >= 0 {
		lines := bytes.SplitAfter(text, []byte("\n"))
		if len(lines[len(lines)-1]) == 0 {
			lines = lines[:len(lines)-1]
		}
		text = bytes.Join(lines[max(0, len(lines)-*tail):], nil)
	}
	_, err = os.Stdout.Write(text)
	return err
}

type image struct {
	ID       string   `json:"id"`
	RepoTags []string `json:"repoTags"`
	Size     string   `json:"size"`
}

// tags gives the names of the images there are: <registry>/<path>:<tag> below the folder.
func tags() ([]string, error) {
	var found []string
	err := filepath.WalkDir(kubelet.ImagesDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || !strings.Contains(entry.Name(), ":") {
			return err
		}
		found = append(found, strings.TrimPrefix(path, kubelet.ImagesDir+"/"))
		return filepath.SkipDir
	})
	return found, err
}

func describe(tag string) (image, error) {
	var size int64
	err := filepath.WalkDir(filepath.Join(kubelet.ImagesDir, tag), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	sum := sha256.Sum256([]byte(tag))
	return image{"sha256:" + hex.EncodeToString(sum[:]), []string{tag}, fmt.Sprint(size)}, err
}

func images(arguments []string) error {
	l, words, err := parse("images", arguments)
	if err != nil {
		return err
	}
	found, err := tags()
	if err != nil {
		return err
	}
	described := []image{}
	for _, tag := range found {
		if len(words) > 0 && tag != words[0] && !strings.HasPrefix(tag, words[0]+":") {
			continue
		}
		each, err := describe(tag)
		if err != nil {
			return err
		}
		described = append(described, each)
	}
	if l.output == "json" && !l.quiet {
		return encode(map[string]any{"images": described})
	}
	for _, each := range described {
		if l.quiet {
			fmt.Println(each.ID)
		} else {
			fmt.Printf("%-60s%.20s  %s\n", each.RepoTags[0], each.ID, each.Size)
		}
	}
	return nil
}

func inspecti(arguments []string) error {
	l, words, err := parse("inspecti", arguments)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return fmt.Errorf("got no image, expected its name or id")
	}
	found, err := tags()
	if err != nil {
		return err
	}
	for _, word := range words {
		present := false
		for _, tag := range found {
			each, err := describe(tag)
			if err != nil {
				return err
			}
			if word != tag && word != each.ID {
				continue
			}
			present = true
			if l.quiet {
				fmt.Println(each.ID)
			} else if err := encode(map[string]any{"status": each}); err != nil {
				return err
			}
		}
		if !present {
			return fmt.Errorf("no such image %q present", word)
		}
	}
	return nil
}
