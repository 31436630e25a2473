#!/bin/bash
# `npm run lab`: brings the lab up and leaves it up. `npm run lab -- help` lists what else it does.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ((EUID != 0)); then
  printf "lab: running as uid %d, expected root: the lab's nodes are network and mount namespaces; run it with 'sudo -E npm run lab'\n" "$EUID" >&2
  exit 1
fi
if [[ ${1-up} == up ]]; then
  bash lab/setup.sh
fi
export PATH=$PWD/node_modules/.bin:$PATH
# node rather than tsx's own wrapper: one process, which gets the signals.
exec node --import tsx lab/lab.ts "$@"
