// Package apiserver stands in for kube-apiserver as far as a backup or a restore of etcd can tell: it serves TLS to holders of the cluster
// CA's certificates, is ready when etcd answers, and never stops writing. It takes the flags that kubeadm gives the real one.
package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"etcd-backup/lab/etcdclient"
	"etcd-backup/lab/kubelet"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

const (
	heartbeatPrefix   = "/registry/lab/heartbeat/"
	heartbeatInterval = 100 * time.Millisecond
	writeTimeout      = 2 * time.Second
	// The real one's --etcd-readycheck-timeout.
	readyTimeout = 2 * time.Second
	// The key that the real one's check of etcd asks for.
	readyKey = "/registry/health"
)

// Line is what the log says of each write: which revision it got, and when the answer came. Or, once per change, why writes fail.
type Line struct {
	Time     time.Time `json:"time"`
	Revision int64     `json:"revision,omitempty"`
	Counter  int64     `json:"counter,omitempty"`
	Error    string    `json:"error,omitempty"`
}

// Run serves until SIGTERM or SIGINT.
func Run(arguments []string) error {
	var etcd etcdclient.Options
	flags := flag.NewFlagSet("kube-apiserver", flag.ContinueOnError)
	flags.StringVar(&etcd.Endpoints, "etcd-servers", "", "etcd's client URLs, comma separated")
	flags.StringVar(&etcd.CACert, "etcd-cafile", "", "etcd's CA")
	flags.StringVar(&etcd.Cert, "etcd-certfile", "", "client certificate for etcd")
	flags.StringVar(&etcd.Key, "etcd-keyfile", "", "its key")
	bind := flags.String("bind-address", "0.0.0.0", "address to listen on")
	port := flags.Int("secure-port", 6443, "port to listen on")
	certificate := flags.String("tls-cert-file", "", "certificate to serve with")
	key := flags.String("tls-private-key-file", "", "its key")
	clientCA := flags.String("client-ca-file", "", "CA whose certificates may ask")
	for _, name := range []string{
		"advertise-address", "allow-privileged", "anonymous-auth", "authorization-mode", "enable-admission-plugins", "enable-bootstrap-token-auth",
		"encryption-provider-config", "kubelet-client-certificate", "kubelet-client-key", "kubelet-preferred-address-types",
		"proxy-client-cert-file", "proxy-client-key-file", "requestheader-allowed-names", "requestheader-client-ca-file",
		"requestheader-extra-headers-prefix", "requestheader-group-headers", "requestheader-username-headers", "service-account-issuer",
		"service-account-key-file", "service-account-signing-key-file", "service-cluster-ip-range",
	} {
		flags.String(name, "", "accepted, as kubeadm gives it; changes nothing here")
	}
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	client, err := etcdclient.Connect(etcd)
	if err != nil {
		return err
	}
	defer client.Close()
	server, listener, err := serve(client, net.JoinHostPort(*bind, fmt.Sprint(*port)), *certificate, *key, *clientCA)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	go write(ctx, client)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

func serve(client *clientv3.Client, address, certificate, key, clientCA string) (*http.Server, net.Listener, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert-file, --tls-private-key-file: %w", err)
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("--client-ca-file: %s holds no certificate, expected a CA in PEM", clientCA)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	// As in the real one: alive and ready both ask etcd, with the same words.
	for _, path := range []string{"livez", "readyz", "healthz"} {
		mux.HandleFunc("GET /"+path, func(response http.ResponseWriter, request *http.Request) {
			if err := ask(request.Context(), client); err != nil {
				http.Error(response, fmt.Sprintf("[+]ping ok\n[-]etcd failed: reason withheld\n%s check failed", path), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(response, "ok")
		})
	}
	mux.HandleFunc("GET /version", func(response http.ResponseWriter, _ *http.Request) {
		response.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(response, "{\n  \"gitVersion\": %q\n}", kubelet.Version)
	})
	return &http.Server{
		Handler:           onlyFor(clients, mux),
		ReadHeaderTimeout: 10 * time.Second,
		// The client's certificate is asked for and judged later, so that who has none gets an answer.
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12},
		ErrorLog:  log.New(os.Stderr, "", log.LstdFlags),
	}, listener, nil
}

// onlyFor answers who has no certificate of the CA as an API server without anonymous access does.
func onlyFor(clients *x509.CertPool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		for _, each := range request.TLS.PeerCertificates {
			options := x509.VerifyOptions{Roots: clients, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
			if _, err := each.Verify(options); err == nil {
				next.ServeHTTP(response, request)
				return
			}
		}
		response.Header().Set("Content-Type", "application/json")
		response.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(response, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`)
	})
}

func ask(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	_, err := client.Get(ctx, readyKey)
	return err
}

// write keeps a key of this node changing, and says each write's revision. One write at a time: the log's order is etcd's.
func write(ctx context.Context, client *clientv3.Client) {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	say := json.NewEncoder(os.Stdout)
	problem := ""
	for counter := int64(1); ; counter++ {
		value, err := json.Marshal(Line{Time: time.Now().UTC(), Counter: counter})
		if err != nil {
			log.Fatal(err)
		}
		attempt, cancel := context.WithTimeout(ctx, writeTimeout)
		answer, err := client.Put(attempt, heartbeatPrefix+name, string(value))
		cancel()
		line := Line{Time: time.Now().UTC(), Counter: counter}
		switch {
		case err == nil:
			line.Revision, problem = answer.Header.Revision, ""
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return
		default:
			line.Error = err.Error()
		}
		if err == nil || line.Error != problem {
			if err := say.Encode(line); err != nil {
				log.Fatal(err)
			}
		}
		problem = line.Error
		select {
		case <-ctx.Done():
			return
		case <-time.After(heartbeatInterval):
		}
	}
}
