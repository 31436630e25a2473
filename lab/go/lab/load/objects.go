package load

import (
	crand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
	"google.golang.org/protobuf/encoding/protowire"
)

// The protobuf messages of Kubernetes' API, as far as anything that reads a snapshot looks into them: field numbers are those of
// k8s.io/apimachinery and k8s.io/api, written by hand because their packages would bring all of Kubernetes along.

// What comes before every protobuf value in etcd.
const protobufMagic = "k8s\x00"

type message []byte

func (m message) text(field protowire.Number, value string) message {
	if value == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), value)
}

func (m message) bytes(field protowire.Number, value []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), value)
}

func (m message) number(field protowire.Number, value uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), value)
}

func (m message) pair(field protowire.Number, key, value string) message {
	return m.bytes(field, message(nil).text(1, key).text(2, value))
}

// envelope is runtime.Unknown: {typeMeta: 1 {apiVersion: 1, kind: 2}, raw: 2}.
func envelope(apiVersion, kind string, raw message) []byte {
	unknown := message(protobufMagic).bytes(1, message(nil).text(1, apiVersion).text(2, kind)).bytes(2, raw)
	// contentEncoding and contentType are written even when empty, as the API server does.
	return unknown.bytes(3, nil).bytes(4, nil)
}

type object struct {
	resource  string // as in the key
	namespace string // '' for what has none
	name      string
	value     []byte
	event     bool // goes under an etcd lease, as events do
}

func (o object) key() string {
	if o.namespace == "" {
		return "/registry/" + o.resource + "/" + o.name
	}
	return "/registry/" + o.resource + "/" + o.namespace + "/" + o.name
}

// A generator makes objects of Kubernetes' shapes and sizes. The same seed gives the same objects, but for what is encrypted.
type generator struct {
	random  *rand.Rand
	seconds uint64 // Unix time in creation timestamps
	secret  *[32]byte
	nonce   io.Reader
}

func (g *generator) hex(bytes int) string {
	text := make([]byte, bytes)
	for index := range text {
		text[index] = byte(g.random.Uint32())
	}
	return hex.EncodeToString(text)
}

func (g *generator) uid() string {
	text := g.hex(16)
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", text[:8], text[8:12], text[13:16], text[17:20], text[20:])
}

var words = strings.Fields(`server client request response timeout retry backend frontend payment order invoice customer session token cache
queue worker scheduler metrics trace level debug info warn error database replica primary region zone endpoint health ready live probe
http https grpc host port path prefix rewrite upstream downstream limit burst rate window interval batch size memory cpu disk volume`)

// prose gives text that compresses about as well as configuration does.
func (g *generator) prose(bytes int) string {
	var text strings.Builder
	for text.Len() < bytes {
		fmt.Fprintf(&text, "%s.%s: %s-%d\n", words[g.random.IntN(len(words))], words[g.random.IntN(len(words))], words[g.random.IntN(len(words))], g.random.IntN(100000))
	}
	return text.String()
}

// metadata is ObjectMeta: name 1, namespace 3, uid 5, generation 7, creationTimestamp 8, labels 11, annotations 12, managedFields 17.
func (g *generator) metadata(namespace, name, uid, app string) message {
	meta := message(nil).text(1, name).text(3, namespace).text(5, uid).number(7, 1)
	meta = meta.bytes(8, message(nil).number(1, g.seconds-uint64(g.random.IntN(30*86400))))
	if app != "" {
		meta = meta.pair(11, "app.kubernetes.io/name", app).pair(11, "pod-template-hash", g.hex(5))
		fields := `{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:pod-template-hash":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"` + app +
			`\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"LOG_LEVEL\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:livenessProbe":{},"f:name":{},"f:resources":{}}}}}`
		managed := message(nil).text(1, "kube-controller-manager").text(2, "Update").text(3, "v1").text(6, "FieldsV1").bytes(7, message(nil).text(1, fields))
		meta = meta.bytes(17, managed)
	}
	return meta
}

func (g *generator) namespace(name, uid string) object {
	raw := message(nil).bytes(1, g.metadata("", name, uid, "").pair(11, "kubernetes.io/metadata.name", name))
	raw = raw.bytes(2, message(nil).text(1, "kubernetes")).bytes(3, message(nil).text(1, "Active"))
	return object{resource: "namespaces", name: name, value: envelope("v1", "Namespace", raw)}
}

func (g *generator) pod(namespace, name, app, phase string) object {
	container := message(nil).text(1, app).text(2, "registry.example.com/"+app+"@sha256:"+g.hex(32))
	for index := range 12 {
		container = container.bytes(7, message(nil).text(1, fmt.Sprintf("SETTING_%d", index)).text(2, g.prose(60)))
	}
	spec := message(nil).bytes(2, container).text(3, "Always").text(10, fmt.Sprintf("ip-10-90-1-%d.ec2.internal", g.random.IntN(250)))
	status := message(nil).text(1, phase).text(5, "10.90.1.7").text(6, fmt.Sprintf("10.244.%d.%d", g.random.IntN(250), g.random.IntN(250)))
	for _, condition := range []string{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		status = status.bytes(2, message(nil).text(1, condition).text(2, "True").bytes(4, message(nil).number(1, g.seconds)))
	}
	raw := message(nil).bytes(1, g.metadata(namespace, name, g.uid(), app)).bytes(2, spec).bytes(3, status)
	return object{resource: "pods", namespace: namespace, name: name, value: envelope("v1", "Pod", raw)}
}

func (g *generator) deployment(namespace, name string) object {
	template := message(nil).bytes(1, g.metadata("", "", "", name)).bytes(2, message(nil).text(3, g.prose(1500)))
	raw := message(nil).bytes(1, g.metadata(namespace, name, g.uid(), name)).bytes(2, message(nil).number(1, 3).bytes(3, template)).bytes(3, message(nil).number(1, 1).number(2, 3))
	return object{resource: "deployments", namespace: namespace, name: name, value: envelope("apps/v1", "Deployment", raw)}
}

func (g *generator) configMap(namespace, name string) object {
	raw := message(nil).bytes(1, g.metadata(namespace, name, g.uid(), "")).pair(2, "application.yaml", g.prose(2000+g.random.IntN(12000)))
	return object{resource: "configmaps", namespace: namespace, name: name, value: envelope("v1", "ConfigMap", raw)}
}

// secretObject holds random bytes, as keys and tokens are: they do not compress.
func (g *generator) secretObject(namespace, name, kind string, bytes int) (object, error) {
	data := make([]byte, bytes)
	for index := range data {
		data[index] = byte(g.random.Uint32())
	}
	raw := message(nil).bytes(1, g.metadata(namespace, name, g.uid(), "")).bytes(2, message(nil).text(1, "data").bytes(2, data)).text(3, kind)
	made := object{resource: "secrets", namespace: namespace, name: name, value: envelope("v1", "Secret", raw)}
	if g.secret == nil {
		return made, nil
	}
	var nonce [24]byte
	if _, err := io.ReadFull(g.nonce, nonce[:]); err != nil {
		return object{}, err
	}
	// As the API server's secretbox provider stores it: prefix with the key's name, nonce, box.
	made.value = secretbox.Seal(append([]byte("k8s:enc:secretbox:v1:key1:"), nonce[:]...), made.value, &nonce, g.secret)
	return made, nil
}

func (g *generator) endpointSlice(namespace, name string) object {
	raw := message(nil).bytes(1, g.metadata(namespace, name, g.uid(), name))
	for range 8 {
		raw = raw.bytes(2, message(nil).text(1, fmt.Sprintf("10.244.%d.%d", g.random.IntN(250), g.random.IntN(250))).bytes(2, message(nil).number(1, 1)))
	}
	raw = raw.bytes(3, message(nil).text(1, "http").text(2, "TCP").number(3, 8080)).text(4, "IPv4")
	return object{resource: "endpointslices", namespace: namespace, name: name, value: envelope("discovery.k8s.io/v1", "EndpointSlice", raw)}
}

func (g *generator) event(namespace, pod string, number int) object {
	name := fmt.Sprintf("%s.%016x", pod, number)
	raw := message(nil).bytes(1, g.metadata(namespace, name, g.uid(), "")).bytes(2, message(nil).text(1, "Pod").text(2, namespace).text(3, pod))
	raw = raw.text(3, "Scheduled").text(4, "Successfully assigned "+namespace+"/"+pod+" to a node: "+g.prose(200)).number(8, 1).text(9, "Normal")
	return object{resource: "events", namespace: namespace, name: name, value: envelope("v1", "Event", raw), event: true}
}

func (g *generator) nodeLease(name string) object {
	raw := message(nil).bytes(1, g.metadata("kube-node-lease", name, g.uid(), "")).bytes(2, message(nil).text(1, name).number(2, 40))
	return object{resource: "leases", namespace: "kube-node-lease", name: name, value: envelope("coordination.k8s.io/v1", "Lease", raw)}
}

func (g *generator) masterLease(ip string) object {
	address := message(nil).bytes(1, message(nil).text(1, ip))
	raw := message(nil).bytes(1, g.metadata("", ip, "", "")).bytes(2, address)
	return object{resource: "masterleases", name: ip, value: envelope("v1", "Endpoints", raw), event: true}
}

func randomUint64() uint64 {
	var bytes [8]byte
	// Never fails on Linux: the runtime ends the program instead.
	_, _ = crand.Read(bytes[:])
	return binary.LittleEndian.Uint64(bytes[:])
}

// namespaceUID reads metadata.uid out of a stored namespace.
func namespaceUID(value []byte) (string, error) {
	raw, err := field(value[min(len(protobufMagic), len(value)):], 2)
	if err != nil {
		return "", err
	}
	meta, err := field(raw, 1)
	if err != nil {
		return "", err
	}
	uid, err := field(meta, 5)
	return string(uid), err
}

// field finds the first length-delimited field of that number in a message.
func field(message []byte, wanted protowire.Number) ([]byte, error) {
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return nil, protowire.ParseError(length)
		}
		message = message[length:]
		if number == wanted && kind == protowire.BytesType {
			value, length := protowire.ConsumeBytes(message)
			return value, protowire.ParseError(min(length, 0))
		}
		if length = protowire.ConsumeFieldValue(number, kind, message); length < 0 {
			return nil, protowire.ParseError(length)
		}
		message = message[length:]
	}
	return nil, fmt.Errorf("a message without field %d, expected one", wanted)
}
