package bboltfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// The buckets of an etcd of 3.5 and later (etcd: server/storage/schema/bucket.go).
var etcdBuckets = []string{
	"alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta",
}

// A free list with more ids than this has their number as its first element (bbolt: internal/common/page.go).
const manyFreePages = 0xFFFF

type writer struct {
	db       *bolt.DB
	random   *rand.Rand
	revision int64
	index    uint64
	pageSize int
}

var shapes = map[string]func(*writer) error{
	"empty":     func(*writer) error { return nil },
	"small":     (*writer).small,
	"deep":      (*writer).deep,
	"overflow":  (*writer).overflow,
	"nested":    (*writer).nested,
	"free":      (*writer).free,
	"free-many": (*writer).freeMany,
	"keyless":   (*writer).keyless,
	"foreign":   (*writer).foreign,
}

// write makes a file with bbolt and prints its length and page size.
func write(arguments []string) error {
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range shapes {
			if !yield(name) {
				return
			}
		}
	})
	flags := flag.NewFlagSet("write", flag.ContinueOnError)
	pageSize := flags.Int("page-size", 4096, "bytes of a page: 4096, 16384 or 65536")
	freelist := flags.String("freelist", "array", "array or hashmap")
	noFreelistSync := flags.Bool("no-freelist-sync", false, "leave the free list out of the file")
	shape := flags.String("shape", "small", strings.Join(names, ", "))
	as := flags.String("as", "snapshot", "snapshot: through Tx.WriteTo, as etcd serves one; file: the data file itself")
	seed := flags.Uint64("seed", 1, "the same seed gives the same rows")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	fill, known := shapes[*shape]
	kind := map[string]bolt.FreelistType{"array": bolt.FreelistArrayType, "hashmap": bolt.FreelistMapType}[*freelist]
	switch {
	case flags.NArg() != 1:
		return fmt.Errorf("got %q, expected one file to write", flags.Args())
	case !known:
		return fmt.Errorf("shape is %q, expected %s", *shape, strings.Join(names, ", "))
	case kind == "":
		return fmt.Errorf("freelist is %q, expected array or hashmap", *freelist)
	case *pageSize != 4096 && *pageSize != 16384 && *pageSize != 65536:
		return fmt.Errorf("page-size is %d, expected 4096, 16384 or 65536", *pageSize)
	case *as != "snapshot" && *as != "file":
		return fmt.Errorf("as is %q, expected snapshot or file", *as)
	}
	out := flags.Arg(0)
	data, err := os.MkdirTemp(filepath.Dir(out), ".bbolt-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	db, err := bolt.Open(filepath.Join(data, "db"), 0o600, &bolt.Options{
		PageSize: *pageSize, FreelistType: kind, NoFreelistSync: *noFreelistSync, NoSync: true,
	})
	if err != nil {
		return err
	}
	w := &writer{db: db, random: rand.New(rand.NewPCG(*seed, uint64(*pageSize))), revision: 1, pageSize: *pageSize}
	if *shape != "foreign" {
		err = w.bootstrap()
	}
	if err == nil {
		err = fill(w)
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Clean(out), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := w.copyTo(io.MultiWriter(file, hash), *as)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if _, err := file.Write(hash.Sum(nil)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"bytes": size + sha256.Size, "pageSize": *pageSize})
}

func (w *writer) copyTo(out io.Writer, as string) (size int64, err error) {
	if as == "file" {
		data, err := os.Open(w.db.Path())
		if err != nil {
			return 0, err
		}
		defer data.Close()
		return io.Copy(out, data)
	}
	err = w.db.View(func(tx *bolt.Tx) error {
		size, err = tx.WriteTo(out)
		return err
	})
	return size, err
}

func (w *writer) update(change func(tx *bolt.Tx) error) error {
	return w.db.Update(func(tx *bolt.Tx) error {
		if meta := tx.Bucket([]byte("meta")); meta != nil {
			w.index++
			if err := meta.Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, w.index)); err != nil {
				return err
			}
		}
		return change(tx)
	})
}

// bootstrap makes what a new member of one writes.
func (w *writer) bootstrap() error {
	return w.update(func(tx *bolt.Tx) error {
		for _, name := range etcdBuckets {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		member := `{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}`
		for _, row := range []struct{ bucket, key, value string }{
			{"auth", "authRevision", "\x00\x00\x00\x00\x00\x00\x00\x01"},
			{"cluster", "clusterVersion", "3.6.0"},
			{"members", "8e9e05c52164694d", member},
			{"meta", "confState", `{"voters":[10276657743932975437],"auto_leave":false}`},
			{"meta", "consistent_index", "\x00\x00\x00\x00\x00\x00\x00\x01"},
			{"meta", "storageVersion", "3.6.0"},
			{"meta", "term", "\x00\x00\x00\x00\x00\x00\x00\x02"},
		} {
			if err := tx.Bucket([]byte(row.bucket)).Put([]byte(row.key), []byte(row.value)); err != nil {
				return err
			}
		}
		return nil
	})
}

// put writes a row as etcd does for a key that is new.
func (w *writer) put(tx *bolt.Tx, key string, value []byte) error {
	w.revision++
	row, err := proto.Marshal(&mvccpb.KeyValue{
		Key: []byte(key), CreateRevision: w.revision, ModRevision: w.revision, Version: 1, Value: value,
	})
	if err != nil {
		return err
	}
	bucket := tx.Bucket([]byte("key"))
	// etcd fills its append-only bucket's pages nearly full.
	bucket.FillPercent = 0.9
	return bucket.Put(w.rowKey(), row)
}

func (w *writer) remove(tx *bolt.Tx, key string) error {
	w.revision++
	row, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte(key)})
	if err != nil {
		return err
	}
	return tx.Bucket([]byte("key")).Put(append(w.rowKey(), 't'), row)
}

func (w *writer) rowKey() []byte {
	key := append(binary.BigEndian.AppendUint64(nil, uint64(w.revision)), '_')
	return binary.BigEndian.AppendUint64(key, 0)
}

func (w *writer) bytes(count int) []byte {
	bytes := make([]byte, count)
	for i := range bytes {
		bytes[i] = byte(w.random.Uint32())
	}
	return bytes
}

// rows puts count keys in transactions of some, and deletes each seventh again.
func (w *writer) rows(count, valueBytes int) error {
	const perTransaction = 50
	for first := 0; first < count; first += perTransaction {
		err := w.update(func(tx *bolt.Tx) error {
			for i := first; i < min(first+perTransaction, count); i++ {
				key := fmt.Sprintf("/registry/configmaps/ns-%d/object-%06d", i%5, i)
				if err := w.put(tx, key, w.bytes(valueBytes/2+w.random.IntN(valueBytes))); err != nil {
					return err
				}
				if i%7 == 0 {
					if err := w.remove(tx, key); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) small() error {
	return w.rows(300, 100)
}

// deep makes a tree of four levels or more: keys that take a fifth of a page leave room for four on a branch page.
func (w *writer) deep() error {
	if err := w.rows(40, 100); err != nil {
		return err
	}
	const count = 150
	long := bytes.Repeat([]byte("x"), min(w.pageSize/5, bolt.MaxKeySize-16))
	return w.update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket([]byte("deep"))
		if err != nil {
			return err
		}
		for i := range count {
			key := append(fmt.Appendf(nil, "%06d", i*7919%count), long...)
			if err := bucket.Put(key, w.bytes(20)); err != nil {
				return err
			}
		}
		return nil
	})
}

// overflow puts values around the edges of one and two pages, and one over 64 KB.
func (w *writer) overflow() error {
	if err := w.rows(30, 100); err != nil {
		return err
	}
	for _, size := range []int{
		w.pageSize - 200, w.pageSize - 100, w.pageSize - 40, w.pageSize, w.pageSize + 1, 2*w.pageSize - 100, 2 * w.pageSize,
		3*w.pageSize + 17, 65_536, 70_000,
	} {
		err := w.update(func(tx *bolt.Tx) error {
			return w.put(tx, fmt.Sprintf("/registry/configmaps/large/object-%06d", size), w.bytes(size))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// nested makes buckets in buckets, some of them inline, some empty, some with pages of their own.
func (w *writer) nested() error {
	if err := w.rows(60, 100); err != nil {
		return err
	}
	return w.update(func(tx *bolt.Tx) error {
		outer, err := tx.CreateBucket([]byte("nested"))
		if err != nil {
			return err
		}
		for depth := range 6 {
			for _, name := range []string{"empty", "inline", "paged"} {
				inner, err := outer.CreateBucket([]byte(name))
				if err != nil {
					return err
				}
				rows := map[string]int{"empty": 0, "inline": 3, "paged": 3 * w.pageSize / 100}[name]
				for i := range rows {
					if err := inner.Put(fmt.Appendf(nil, "key-%d-%05d", depth, i), w.bytes(40)); err != nil {
						return err
					}
				}
				if err := inner.SetSequence(uint64(depth)); err != nil {
					return err
				}
			}
			if outer, err = outer.CreateBucket(fmt.Appendf(nil, "level-%d", depth)); err != nil {
				return err
			}
		}
		return nil
	})
}

// free leaves some pages free by writing rows and compacting them away, as etcd does.
func (w *writer) free() error {
	if err := w.rows(600, 200); err != nil {
		return err
	}
	err := w.update(func(tx *bolt.Tx) error {
		cursor := tx.Bucket([]byte("key")).Cursor()
		for key, _ := cursor.First(); key != nil && binary.BigEndian.Uint64(key) < 400; key, _ = cursor.First() {
			if err := cursor.Delete(); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("finishedCompactRev"), compactedRow(400))
	})
	if err != nil {
		return err
	}
	// What one transaction frees is free in the file from the next one on.
	return w.rows(3, 100)
}

// compactedRow is how etcd stores the revision that was compacted: as a row's key.
func compactedRow(revision uint64) []byte {
	return append(append(binary.BigEndian.AppendUint64(nil, revision), '_'), make([]byte, 8)...)
}

// freeMany frees more pages than the count of a page can hold. All of them are one value's.
func (w *writer) freeMany() error {
	if err := w.rows(60, 100); err != nil {
		return err
	}
	name := []byte("large")
	err := w.update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket(name)
		if err != nil {
			return err
		}
		return bucket.Put(name, make([]byte, (manyFreePages+100)*w.pageSize))
	})
	if err != nil {
		return err
	}
	if err := w.update(func(tx *bolt.Tx) error { return tx.DeleteBucket(name) }); err != nil {
		return err
	}
	return w.rows(3, 100)
}

// keyless has all of etcd's buckets but the one of its keys.
func (w *writer) keyless() error {
	return w.update(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("key")) })
}

// foreign is a sound bbolt file of another program.
func (w *writer) foreign() error {
	return w.db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket([]byte("widgets"))
		if err != nil {
			return err
		}
		for i := range 500 {
			if err := bucket.Put(fmt.Appendf(nil, "widget-%05d", i), w.bytes(60)); err != nil {
				return err
			}
		}
		return nil
	})
}
