#!/bin/bash
# The main job, end to end, on the lab: set-up, three real nodes, data, the schedule fires, a snapshot in the bucket, the proof.
# Works on a fresh clone, as root, and again. Its exit status is the outcome.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash lab/setup.sh npm commands etcd-3.6 minio lab
exec node_modules/.bin/tsx lab/demo.ts "$@"
