// Package kubelet runs static pods as the kubelet does, as far as a backup or a restore of etcd can tell: manifests in a folder,
// each container in a root, mount and pid namespace of its own on the host's network, restarted with a back-off. A kubelet that ends
// leaves its containers running, and the next one takes them over by what is written under /run/lab/containers.
//
// Two things the real one does not have: a pod with the annotation `lab/run: "never"` is left alone, for labs without an API server, and
// while /run/lab/ignore-removed-manifests exists a removed manifest stops nothing, as with a real kubelet that has not reached its API
// server since it started.
package kubelet

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	pollInterval         = 500 * time.Millisecond
	ignoreRemovedFile    = "/run/lab/ignore-removed-manifests"
	neverRun             = "lab/run"
	defaultStaticPodPath = "/etc/kubernetes/manifests"
)

// ImagesDir holds the images of a node: a root directory each, by the name that a manifest calls it.
const ImagesDir = "/opt/lab/images"

// Version is that of Kubernetes in the lab's images and manifests.
const Version = "v1.33.1"

type pod struct {
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Annotations map[string]string `json:"annotations"`
		Labels      map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		HostNetwork                   bool        `json:"hostNetwork"`
		TerminationGracePeriodSeconds *int        `json:"terminationGracePeriodSeconds"`
		Containers                    []container `json:"containers"`
		Volumes                       []volume    `json:"volumes"`
	} `json:"spec"`
}

type container struct {
	Name         string        `json:"name"`
	Image        string        `json:"image"`
	Command      []string      `json:"command"`
	Args         []string      `json:"args"`
	WorkingDir   string        `json:"workingDir"`
	Env          []variable    `json:"env"`
	VolumeMounts []volumeMount `json:"volumeMounts"`
}

type variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type volumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

type volume struct {
	Name     string    `json:"name"`
	HostPath *hostPath `json:"hostPath"`
}

type hostPath struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

// Run is the kubelet's command: the flags that kubeadm gives it, of which only --config and --pod-manifest-path change anything here.
func Run(arguments []string) error {
	flags := flag.NewFlagSet("kubelet", flag.ContinueOnError)
	config := flags.String("config", "/var/lib/kubelet/config.yaml", "file with a KubeletConfiguration")
	manifests := flags.String("pod-manifest-path", "", "folder of static pods; wins over the configuration's staticPodPath")
	for _, name := range []string{"bootstrap-kubeconfig", "kubeconfig", "container-runtime-endpoint", "pod-infra-container-image", "node-ip", "hostname-override"} {
		flags.String(name, "", "accepted, as kubeadm gives it; there is no API server here to use it with")
	}
	version := flags.Bool("version", false, "say the version and end")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *version {
		fmt.Printf("Kubernetes %s\n", Version)
		return nil
	}
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	folder := *manifests
	if folder == "" {
		text, err := os.ReadFile(*config)
		if err != nil {
			return err
		}
		var configuration struct {
			StaticPodPath string `json:"staticPodPath"`
		}
		if err := yaml.Unmarshal(text, &configuration); err != nil {
			return fmt.Errorf("%s: %w", *config, err)
		}
		folder = configuration.StaticPodPath
	}
	if folder == "" {
		folder = defaultStaticPodPath
	}
	if err := os.MkdirAll(logsDir, 0o755); err != nil {
		return err
	}
	log.Printf("watching %s", folder)
	running, err := adopt()
	if err != nil {
		return err
	}
	for {
		wanted, err := readManifests(folder)
		if err != nil {
			return err
		}
		reconcile(running, wanted)
		time.Sleep(pollInterval)
	}
}

// adopt takes over the containers that an earlier kubelet left running, and removes what is left of those that have ended.
func adopt() (map[string]*running, error) {
	records, err := Records()
	if err != nil {
		return nil, err
	}
	type left struct {
		manifest   manifest
		containers map[string]*Record
		runs       bool
	}
	byFile := map[string]*left{}
	for _, record := range records {
		if byFile[record.File] == nil {
			byFile[record.File] = &left{manifest: manifest{record.Hash, record.Pod}, containers: map[string]*Record{}}
		}
		byFile[record.File].containers[record.Container.Name] = record
		byFile[record.File].runs = byFile[record.File].runs || record.Runs()
	}
	kept := map[string]bool{}
	for file, each := range byFile {
		for _, record := range each.containers {
			if each.runs {
				kept[record.Root] = true
			} else if err := record.remove(); err != nil {
				return nil, err
			}
		}
		if !each.runs {
			delete(byFile, file)
		}
	}
	// A kubelet that ended while it made or removed a root has left it.
	roots, err := filepath.Glob(filepath.Join(containersDir, "*", "*"))
	if err != nil {
		return nil, err
	}
	for _, root := range roots {
		if !kept[root] {
			if err := os.RemoveAll(root); err != nil {
				return nil, err
			}
		}
	}
	pods := map[string]*running{}
	for file, each := range byFile {
		log.Printf("taking over pod %s of %s", each.manifest.pod.Metadata.Name, file)
		pods[file] = start(file, each.manifest, each.containers)
	}
	return pods, nil
}

type manifest struct {
	hash string
	pod  pod
}

// readManifests reads the pods in a folder by file name. A manifest that is not a pod is said once per change of its bytes and left out.
func readManifests(folder string) (map[string]manifest, error) {
	entries, err := os.ReadDir(folder)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pods := map[string]manifest{}
	for _, entry := range entries {
		name := entry.Name()
		// The kubelet reads every file but hidden ones, which is why a backup copy of a manifest in this folder is a second pod.
		if entry.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, name))
		if os.IsNotExist(err) {
			continue // moved away between the listing and now
		}
		if err != nil {
			return nil, err
		}
		var each pod
		if err := yaml.Unmarshal(text, &each); err != nil || each.Metadata.Name == "" {
			complain(name, hash(text), err)
			continue
		}
		if each.Metadata.Annotations[neverRun] == "never" {
			continue
		}
		pods[name] = manifest{hash(text), each}
	}
	return pods, nil
}

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

var complained = map[string]string{}

func complain(name string, hash string, err error) {
	if complained[name] == hash {
		return
	}
	complained[name] = hash
	log.Printf("%s is not a pod, expected YAML with metadata.name: %v", name, err)
}

func reconcile(pods map[string]*running, wanted map[string]manifest) {
	_, err := os.Stat(ignoreRemovedFile)
	ignoreRemoved := err == nil
	var stopping sync.WaitGroup
	for file, each := range pods {
		manifest, still := wanted[file]
		if still && manifest.hash == each.hash || !still && ignoreRemoved {
			continue
		}
		log.Printf("stopping pod %s: its manifest %s is %s", each.pod.Metadata.Name, file, map[bool]string{true: "changed", false: "gone"}[still])
		stopping.Go(each.stop)
		delete(pods, file)
	}
	stopping.Wait()
	files := make([]string, 0, len(wanted))
	for file := range wanted {
		files = append(files, file)
	}
	sort.Strings(files)
	for _, file := range files {
		if _, is := pods[file]; !is {
			log.Printf("starting pod %s of %s", wanted[file].pod.Metadata.Name, file)
			pods[file] = start(file, wanted[file], nil)
		}
	}
}
