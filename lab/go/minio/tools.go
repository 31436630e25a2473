//go:build tools

// Package tools pins what lab/setup.sh builds: go.mod and go.sum next to it are the whole truth about versions.
package tools

import _ "github.com/minio/minio"
