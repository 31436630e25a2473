#!/bin/bash
# This project's backup against the plain tools, on the same data, in one run: `npm run bench -- --size 1000MB --rounds 3`.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash lab/setup.sh npm commands etcd-3.6 minio lab
exec node_modules/.bin/tsx lab/bench.ts "$@"
