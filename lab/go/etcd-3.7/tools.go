//go:build tools

// Package tools pins what lab/setup.sh builds: go.mod and go.sum next to it are the whole truth about versions.
package tools

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/etcdutl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
