// Package load fills etcd with what a Kubernetes API server would have written: objects of the usual kinds and sizes under /registry,
// one revision each, events under leases, Secrets encrypted as the API server does it, updates and deletes.
package load

import (
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"etcd-backup/lab/etcdclient"

	clientv3 "go.etcd.io/etcd/client/v3"
	"sigs.k8s.io/yaml"
)

const (
	// The API server puts this many events under one lease, and keeps them an hour. Master leases live 15 s there, renewed for ever; nobody
	// renews them here, so they get the hour too.
	eventsPerLease  = 1000
	leaseTTLSeconds = 3600
	requestTimeout  = 60 * time.Second
	namespaceCount  = 12
	podsPerApp      = 3
)

type options struct {
	endpoints, cacert, cert, key string
	size                         int64
	parallel, batch              int
	secrets, encryption          string
	masters                      string
	seed                         uint64
}

type summary struct {
	Keys          int64          `json:"keys"`
	Revision      int64          `json:"revision"`
	DbSize        int64          `json:"dbSize"`
	DbSizeInUse   int64          `json:"dbSizeInUse"`
	Written       map[string]int `json:"written"`
	Updates       int            `json:"updates"`
	Deletes       int            `json:"deletes"`
	Secrets       string         `json:"secrets"`
	KubeSystemUID string         `json:"kubeSystemUid"`
	Seconds       float64        `json:"seconds"`
}

// parseSize reads 50MB, 1GB, 500KiB or a number of bytes.
func parseSize(text string) (int64, error) {
	units := []struct {
		name  string
		bytes int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}
	for _, unit := range units {
		if number, found := strings.CutSuffix(text, unit.name); found {
			value, err := strconv.ParseFloat(number, 64)
			if err != nil || value <= 0 {
				return 0, fmt.Errorf("size is %q, expected for example 50MB or 1GB", text)
			}
			return int64(value * float64(unit.bytes)), nil
		}
	}
	return 0, fmt.Errorf("size is %q, expected for example 50MB or 1GB", text)
}

// Run loads until etcd's database has the wanted size and prints a JSON summary.
func Run(arguments []string) error {
	var o options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&o.endpoints, "endpoints", "https://127.0.0.1:2379", "etcd's client URLs, comma separated")
	flags.StringVar(&o.cacert, "cacert", "/etc/kubernetes/pki/etcd/ca.crt", "etcd's CA")
	flags.StringVar(&o.cert, "cert", "/etc/kubernetes/pki/apiserver-etcd-client.crt", "client certificate")
	flags.StringVar(&o.key, "key", "/etc/kubernetes/pki/apiserver-etcd-client.key", "its key")
	size := flags.String("size", "50MB", "bytes that the database shall have in the end")
	flags.IntVar(&o.parallel, "parallel", 64, "writes under way at a time")
	flags.IntVar(&o.batch, "batch", 1, "writes in one transaction, up to 100; with 1 each write is a revision of its own, as with an API server, and more go faster")
	flags.StringVar(&o.secrets, "secrets", "encrypted", "encrypted or plain: how Secrets are stored")
	flags.StringVar(&o.encryption, "encryption-provider-config", "/etc/kubernetes/enc/enc.yaml", "where the key for them is")
	flags.StringVar(&o.masters, "masters", "", "addresses of the control-plane nodes, comma separated, for /registry/masterleases")
	flags.Uint64Var(&o.seed, "seed", 1, "the same seed gives the same objects")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	var err error
	if o.size, err = parseSize(*size); err != nil {
		return err
	}
	if o.parallel < 1 || o.batch < 1 || o.batch > 100 {
		return fmt.Errorf("parallel is %d and batch %d, expected 1 or more, and 1 to 100", o.parallel, o.batch)
	}
	if o.secrets != "encrypted" && o.secrets != "plain" {
		return fmt.Errorf("secrets is %q, expected encrypted or plain", o.secrets)
	}
	client, err := etcdclient.Connect(etcdclient.Options{Endpoints: o.endpoints, CACert: o.cacert, Cert: o.cert, Key: o.key})
	if err != nil {
		return err
	}
	defer client.Close()
	result, err := load(client, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func encryptionKey(o options) (*[32]byte, error) {
	if o.secrets == "plain" {
		return nil, nil
	}
	text, err := os.ReadFile(o.encryption)
	if err != nil {
		return nil, err
	}
	var configuration struct {
		Resources []struct {
			Providers []struct {
				Secretbox *struct {
					Keys []struct {
						Secret string `json:"secret"`
					} `json:"keys"`
				} `json:"secretbox"`
			} `json:"providers"`
		} `json:"resources"`
	}
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		return nil, fmt.Errorf("%s: %w", o.encryption, err)
	}
	for _, resource := range configuration.Resources {
		for _, provider := range resource.Providers {
			if provider.Secretbox == nil || len(provider.Secretbox.Keys) == 0 {
				continue
			}
			secret, err := base64.StdEncoding.DecodeString(provider.Secretbox.Keys[0].Secret)
			if err != nil || len(secret) != 32 {
				return nil, fmt.Errorf("%s: the secretbox key has %d bytes (%v), expected 32", o.encryption, len(secret), err)
			}
			return (*[32]byte)(secret), nil
		}
	}
	return nil, fmt.Errorf("%s has no secretbox provider, expected one", o.encryption)
}

// A writer keeps many transactions under way. They may overtake each other: two writes of one key must be apart by `apart` writes.
type writer struct {
	client *clientv3.Client
	work   chan []clientv3.Op
	group  sync.WaitGroup

	pending sync.WaitGroup // transactions given to the workers and not done

	cancel context.CancelCauseFunc
	ctx    context.Context
	batch  []clientv3.Op
	size   int
	bytes  int
}

// etcd refuses requests of more than 1.5 MiB.
const batchBytes = 1 << 20

func newWriter(client *clientv3.Client, o options) *writer {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &writer{client: client, work: make(chan []clientv3.Op), ctx: ctx, cancel: cancel, size: o.batch}
	for range o.parallel {
		w.group.Add(1)
		go func() {
			defer w.group.Done()
			for ops := range w.work {
				// After a failure the rest is only taken off, so that whoever feeds the channel can end.
				if w.ctx.Err() == nil {
					if err := w.commit(ops); err != nil {
						w.cancel(fmt.Errorf("write %s: %w", ops[0].KeyBytes(), err))
					}
				}
				w.pending.Done()
			}
		}()
	}
	return w
}

// apart is how many writes must lie between two of the same key, so that they are never in one transaction nor under way together.
func apart(o options) int { return (o.parallel + 2) * o.batch }

func (w *writer) commit(ops []clientv3.Op) error {
	for attempt := 0; ; attempt++ {
		ctx, cancel := context.WithTimeout(w.ctx, requestTimeout)
		var err error
		if len(ops) == 1 {
			_, err = w.client.Do(ctx, ops[0])
		} else {
			_, err = w.client.Txn(ctx).Then(ops...).Commit()
		}
		cancel()
		// etcd asks for patience while it catches up with itself; a write that is done twice is only one more revision.
		if err == nil || attempt == 10 || !strings.Contains(err.Error(), "too many requests") && !strings.Contains(err.Error(), "timed out") {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *writer) put(op clientv3.Op) error {
	w.batch = append(w.batch, op)
	w.bytes += len(op.KeyBytes()) + len(op.ValueBytes())
	if len(w.batch) >= w.size || w.bytes > batchBytes {
		w.flush()
	}
	return context.Cause(w.ctx)
}

func (w *writer) flush() {
	if len(w.batch) > 0 {
		w.pending.Add(1)
		w.work <- w.batch
	}
	w.batch, w.bytes = nil, 0
}

// drain waits until nothing is under way.
func (w *writer) drain() error {
	w.flush()
	w.pending.Wait()
	return context.Cause(w.ctx)
}

func (w *writer) wait() error {
	w.flush()
	close(w.work)
	w.group.Wait()
	return context.Cause(w.ctx)
}

// A change is a second write of a key, due once enough others lie between it and the first one.
type change struct {
	op  clientv3.Op
	due int
}

func load(client *clientv3.Client, o options) (*summary, error) {
	started := time.Now()
	secret, err := encryptionKey(o)
	if err != nil {
		return nil, err
	}
	make := &generator{random: rand.New(rand.NewPCG(o.seed, 0)), seconds: uint64(started.Unix()), secret: secret, nonce: crand.Reader}
	result := &summary{Written: map[string]int{}, Secrets: o.secrets}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()

	if result.KubeSystemUID, err = kubeSystem(ctx, client, make); err != nil {
		return nil, err
	}
	writer := newWriter(client, o)
	err = fill(ctx, client, writer, make, result, o, func() (int64, error) {
		status, err := client.Status(ctx, strings.Split(o.endpoints, ",")[0])
		if err != nil {
			return 0, err
		}
		return status.DbSize, nil
	})
	if err := errors.Join(err, writer.wait()); err != nil {
		return nil, err
	}
	// What is pending in etcd's buffer is not in the size yet; a quorum read makes this member catch up.
	count, err := client.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	after, err := client.Status(ctx, strings.Split(o.endpoints, ",")[0])
	if err != nil {
		return nil, err
	}
	result.Keys, result.Revision = count.Count, count.Header.Revision
	result.DbSize, result.DbSizeInUse = after.DbSize, after.DbSizeInUse
	result.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	return result, nil
}

// fill writes one application after the other until the database is large enough.
func fill(ctx context.Context, client *clientv3.Client, writer *writer, make *generator, result *summary, o options, size func() (int64, error)) error {
	var lease clientv3.LeaseID
	var changes []change
	var events, issued int
	var written, checked int64
	issue := func(op clientv3.Op) error {
		issued++
		written += int64(len(op.ValueBytes()))
		return writer.put(op)
	}
	put := func(objects ...object) error {
		for _, each := range objects {
			result.Written[each.resource]++
			if !each.event {
				if err := issue(clientv3.OpPut(each.key(), string(each.value))); err != nil {
					return err
				}
				continue
			}
			if events%eventsPerLease == 0 {
				granted, err := client.Grant(ctx, leaseTTLSeconds)
				if err != nil {
					return fmt.Errorf("grant a lease: %w", err)
				}
				lease = granted.ID
			}
			events++
			if err := issue(clientv3.OpPut(each.key(), string(each.value), clientv3.WithLease(lease))); err != nil {
				return err
			}
		}
		return nil
	}

	var first []object
	for index := range namespaceCount {
		first = append(first, make.namespace(namespaceName(index), make.uid()))
	}
	for _, name := range []string{"default", "kube-public", "kube-node-lease"} {
		first = append(first, make.namespace(name, make.uid()))
	}
	for _, ip := range strings.FieldsFunc(o.masters, func(r rune) bool { return r == ',' }) {
		first = append(first, make.masterLease(ip))
	}
	if err := put(first...); err != nil {
		return err
	}
	grown, err := size()
	if err != nil {
		return err
	}
	for app := 0; grown < o.size; app++ {
		objects, err := application(make, app)
		if err != nil {
			return err
		}
		if err := put(objects...); err != nil {
			return err
		}
		// A change of state for one pod, and one pod less now and then: more revisions than keys, as everywhere.
		pod := objects[1]
		changed := make.pod(pod.namespace, pod.name, "changed", "Succeeded")
		changes = append(changes, change{clientv3.OpPut(changed.key(), string(changed.value)), issued + apart(o)})
		result.Updates++
		if app%4 == 3 {
			changes = append(changes, change{clientv3.OpDelete(objects[2].key()), issued + apart(o)})
			result.Deletes++
		}
		for len(changes) > 0 && changes[0].due <= issued {
			if err := issue(changes[0].op); err != nil {
				return err
			}
			changes = changes[1:]
		}
		// The size is asked for as seldom as the distance to go allows.
		if written-checked > max((o.size-grown)/4, 256<<10) {
			if grown, err = size(); err != nil {
				return err
			}
			checked = written
		}
	}
	if err := writer.drain(); err != nil {
		return err
	}
	for _, each := range changes {
		if err := issue(each.op); err != nil {
			return err
		}
	}
	return nil
}

func namespaceName(index int) string { return fmt.Sprintf("team-%02d", index) }

// kubeSystem writes the namespace whose UID is the cluster's identity, once: a second load keeps the UID.
func kubeSystem(ctx context.Context, client *clientv3.Client, make *generator) (string, error) {
	const key = "/registry/namespaces/kube-system"
	found, err := client.Get(ctx, key)
	if err != nil {
		return "", err
	}
	if len(found.Kvs) > 0 {
		return namespaceUID(found.Kvs[0].Value)
	}
	// Not from the seed: two clusters must differ in it.
	own := &generator{random: rand.New(rand.NewPCG(randomUint64(), randomUint64())), seconds: make.seconds}
	uid := own.uid()
	_, err = client.Put(ctx, key, string(make.namespace("kube-system", uid).value))
	return uid, err
}

// application is what one deployed application leaves in etcd: about 100 KB, of which the release's Secret is the largest part.
func application(make *generator, number int) ([]object, error) {
	namespace := namespaceName(number % namespaceCount)
	app := fmt.Sprintf("%s-%05d", words[number%len(words)], number)
	objects := []object{make.deployment(namespace, app)}
	for range podsPerApp {
		objects = append(objects, make.pod(namespace, app+"-"+make.hex(5), app, "Running"))
	}
	for _, pod := range objects[1:] {
		objects = append(objects, make.event(namespace, pod.name, number*2), make.event(namespace, pod.name, number*2+1))
	}
	objects = append(objects,
		make.endpointSlice(namespace, app), make.configMap(namespace, app), make.configMap(namespace, app+"-extra"),
		make.nodeLease(fmt.Sprintf("ip-10-90-%d-%d.ec2.internal", 1+number/250%250, number%250)))
	for _, secret := range []struct {
		name, kind string
		bytes      int
	}{{app + "-token", "kubernetes.io/service-account-token", 1200}, {app + "-tls", "kubernetes.io/tls", 3000}, {"sh.helm.release.v1." + app + ".v1", "helm.sh/release.v1", 8000}} {
		made, err := make.secretObject(namespace, secret.name, secret.kind, secret.bytes)
		if err != nil {
			return nil, err
		}
		objects = append(objects, made)
	}
	return objects, nil
}
