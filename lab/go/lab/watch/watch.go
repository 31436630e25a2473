// Package watch keeps one watch open, over every loss of its connection, as a Kubernetes client's reflector relies on.
package watch

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"etcd-backup/lab/etcdclient"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type line struct {
	Type            string `json:"type"` // created, put, delete or compacted
	Revision        int64  `json:"revision,omitempty"`
	Key             string `json:"key,omitempty"`
	CompactRevision int64  `json:"compactRevision,omitempty"`
}

// Run prints one JSON line when the watch is open, one for each event, and a last one when etcd says that what the watch should begin or
// go on with is compacted. Then it ends with 0; every other end of the watch is an error.
func Run(arguments []string) error {
	var etcd etcdclient.Options
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	flags.StringVar(&etcd.Endpoints, "endpoints", "https://127.0.0.1:2379", "etcd's client URLs, comma separated")
	flags.StringVar(&etcd.CACert, "cacert", "/etc/kubernetes/pki/etcd/ca.crt", "etcd's CA")
	flags.StringVar(&etcd.Cert, "cert", "/etc/kubernetes/pki/apiserver-etcd-client.crt", "client certificate")
	flags.StringVar(&etcd.Key, "key", "/etc/kubernetes/pki/apiserver-etcd-client.key", "its key")
	prefix := flags.String("prefix", "/registry/", "keys to watch")
	revision := flags.Int64("revision", 0, "revision to begin with; 0: the next one")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	client, err := etcdclient.Connect(etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	say := json.NewEncoder(os.Stdout)
	for response := range client.Watch(context.Background(), *prefix, clientv3.WithPrefix(), clientv3.WithRev(*revision), clientv3.WithCreatedNotify()) {
		var lines []line
		if response.Created {
			lines = append(lines, line{Type: "created", Revision: response.Header.Revision})
		}
		for _, event := range response.Events {
			kind := "put"
			if event.Type == clientv3.EventTypeDelete {
				kind = "delete"
			}
			lines = append(lines, line{Type: kind, Revision: event.Kv.ModRevision, Key: string(event.Kv.Key)})
		}
		problem := response.Err()
		if errors.Is(problem, rpctypes.ErrCompacted) {
			lines = append(lines, line{Type: "compacted", CompactRevision: response.CompactRevision})
		}
		for _, each := range lines {
			if err := say.Encode(each); err != nil {
				return err
			}
		}
		if errors.Is(problem, rpctypes.ErrCompacted) {
			return nil
		}
		if problem != nil {
			return fmt.Errorf("the watch ended: %w", problem)
		}
	}
	return errors.New("the watch ended without a word, expected it to stay open")
}
