#!/bin/bash
# Everything that proves the project: set-up, static checks, unit tests, then the tests against real etcd and a real S3 server.
# Works on a fresh clone, as root, and again. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
passed=0 failed=0

# count FILE: adds up every `N passed, N failed` line and every jest summary line of a step's output.
count() {
  local line
  while IFS= read -r line; do
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
      passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    elif [[ $line =~ ^Tests:\  ]]; then
      [[ ! $line =~ ([0-9]+)\ passed ]] || passed=$((passed + BASH_REMATCH[1]))
      [[ ! $line =~ ([0-9]+)\ failed ]] || failed=$((failed + BASH_REMATCH[1]))
    fi
  done <"$1"
}

# step NAME COMMAND...: runs one step; a step that fails without counting a failure counts as one.
step() {
  local name=$1 before=$failed status log
  shift
  log=$(mktemp)
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  count "$log"
  rm -f "$log"
  if ((status != 0 && failed == before)); then
    printf 'FAILED  %s ended with status %d\n' "$name" "$status"
    failed=$((failed + 1))
  fi
}

if ! bash lab/setup.sh; then
  printf '0 passed, 1 failed\n'
  exit 1
fi
hash -r
step 'static checks' bash test/lint.sh
step 'unit tests' jest --selectProjects unit --ci
# Three at a time: they wait more than they work.
step 'tests on real nodes' jest --selectProjects integration --ci --maxWorkers 3
printf '\n%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
