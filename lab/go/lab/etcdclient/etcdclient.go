// Package etcdclient connects to etcd as an API server does: several endpoints, a client certificate, etcd's own CA.
package etcdclient

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// gRPC's own longest pause between two attempts to connect is two minutes; a test that stopped an etcd would wait for it.
const longestPause = time.Second

// Options say where etcd is and what opens it. Files are PEM.
type Options struct {
	Endpoints, CACert, Cert, Key string
}

// Connect gives a client of the endpoints, comma separated. It does not wait for any of them to answer.
func Connect(options Options) (*clientv3.Client, error) {
	ca, err := os.ReadFile(options.CACert)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate, expected etcd's CA in PEM", options.CACert)
	}
	pair, err := tls.LoadX509KeyPair(options.Cert, options.Key)
	if err != nil {
		return nil, err
	}
	pause := backoff.DefaultConfig
	pause.MaxDelay = longestPause
	return clientv3.New(clientv3.Config{
		Endpoints:            strings.Split(options.Endpoints, ","),
		DialTimeout:          10 * time.Second,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		TLS:                  &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		Logger:               zap.NewNop(),
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: 3 * time.Second})},
	})
}
