#!/bin/bash
# cfn-lint and checkov over the templates of the table of clusters in bin/etcd-backup.ts, and over those of a cluster with everything switched on.
# Every finding has to be acknowledged, with a reason, in test/template-findings.json; a new one fails, and so does an acknowledgement that nothing needs.
# What cannot be installed is a failure, never a skip.
#
# The tools are kept under ETCD_BACKUP_CACHE (default: ~/.cache/etcd-backup), by their versions and Python's. PYTHON: another than python3.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CACHE=${ETCD_BACKUP_CACHE:-${HOME:-/root}/.cache/etcd-backup}
readonly PYTHON=${PYTHON:-python3}
readonly REQUIREMENTS=test/template-requirements.txt

fail() {
  printf 'FAILED  templates: %s\n0 passed, 1 failed\n' "$*"
  exit 1
}

WORK=$(mktemp -d)
trap 'rm -rf -- "$WORK" ${BUILDING:+"$BUILDING"}' EXIT
trap 'fail "the command above failed (line $LINENO of test/template.sh)"' ERR

# set_up: makes TOOLS a Python with both in it, all or nothing.
set_up() {
  local version wanted
  version=$("$PYTHON" -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>&1) ||
    fail "$PYTHON: got ${version##*$'\n'}, expected Python 3.11 or newer with its module venv; install it, or set PYTHON"
  wanted=$(sha256sum <"$REQUIREMENTS")
  TOOLS=$CACHE/templates/$version-${wanted:0:16}
  [[ ! -d $TOOLS ]] || return 0
  printf 'installing cfn-lint and checkov into %s (400 MB, one to five minutes)\n' "$TOOLS"
  mkdir -p "${TOOLS%/*}"
  BUILDING=$(mktemp -d "${TOOLS%/*}/.building.XXXXXX")
  # Without its requirements: the file names all of them, so nothing comes in that it does not pin.
  { "$PYTHON" -m venv "$BUILDING" && "$BUILDING/bin/python3" -m pip install --quiet --no-deps --requirement "$REQUIREMENTS"; } >&2 ||
    fail "cfn-lint and checkov could not be installed from PyPI as $REQUIREMENTS pins them; see above; check the network, or set PIP_INDEX_URL"
  # Two at a time make the same thing: the second one finds it there.
  mv -T -- "$BUILDING" "$TOOLS" 2>/dev/null || [[ -d $TOOLS ]]
  rm -rf -- "$BUILDING"
  BUILDING=''
}

# may_find STATUS... -- COMMAND...: runs COMMAND; statuses by which it says that it found something are as good as 0.
may_find() {
  local status=0
  local -a good=()
  while [[ $1 != -- ]]; do
    good+=("$1")
    shift
  done
  shift
  "$@" || status=$?
  [[ " 0 ${good[*]} " == *" $status "* ]] || fail "${2##*/} ended with $status, expected one of 0 ${good[*]}; see above"
}

set_up
tsx test/template.ts synthesize "$WORK"
templates=("$WORK"/*/*.template.json)
# Side by side, each takes a core. Of cfn-lint 2, 4 and 8: errors, warnings, informational.
may_find 2 4 6 8 10 12 14 -- "$TOOLS/bin/python3" "$TOOLS/bin/cfn-lint" --format json --output-file "$WORK/cfn-lint.json" -- "${templates[@]}" &
linting=$!
# Asks nobody, sends nothing.
may_find 1 -- "$TOOLS/bin/python3" "$TOOLS/bin/checkov" --framework cloudformation --skip-download --quiet --compact --output json \
  --file "${templates[@]}" >"$WORK/checkov.json"
wait "$linting" || exit 1
trap - ERR
tsx test/template.ts compare "$WORK/cfn-lint.json" "$WORK/checkov.json"
