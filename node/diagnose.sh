#!/bin/bash
# Gathers what one needs to ask for help with a failed restore, without secrets: it takes no lock, changes nothing and refuses nothing.
# Parameters: RestoreId.
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# SSM keeps the first 24,000 characters; every quote and line end takes two.
readonly PART_CHARACTERS=1900 EVIDENCE_CHARACTERS=21500
# Words beside which a secret may stand.
readonly SECRET_WORDS='*@(token|password|passwd|secret|authorization|bearer|private key|x-amz-)*'

# evidence NAME TEXT [CHARACTERS]: the end of TEXT, line by line without what may hold a secret.
evidence() {
  local line piece kept='' most=${3:-$PART_CHARACTERS}
  shopt -s nocasematch extglob
  while IFS= read -r line; do
    # shellcheck disable=SC2053  # it is a pattern
    [[ $line == $SECRET_WORDS ]] || kept+=${line:0:300}$'\n'
  done <<<"$2"
  shopt -u nocasematch
  ((${#kept} <= most)) || kept=${kept: -most}
  piece=$(json_string "$kept")
  ((${#EVIDENCE} + ${#piece} <= EVIDENCE_CHARACTERS)) || piece='"left out: no room"'
  EVIDENCE+="${EVIDENCE:+,}\"$1\":$piece"
}

# container_log COMPONENT: the end of its newest container log.
container_log() {
  newest_log "$1"
  [[ -n $NEWEST_LOG ]] || return 0
  evidence "$1" "$(tail -n 25 -- "$NEWEST_LOG" 2>&1 | tr -d '\000')"
}

# kept_logs: what keep_failed has kept, with the most room. All else is as it is after the rollback.
kept_logs() {
  local name file
  for name in journal etcd kube-apiserver; do
    file=$RESTORE_DIR/$RESTORE_ID.failed/$name
    [[ ! -f $file ]] || evidence "failed-$name" "$(tr -d '\000' <"$file")" 3800
  done
}

ask_everything() {
  ANSWER=''
  ask_http /version || :
  evidence version "$ANSWER"
  ask_gateway /v3/maintenance/status '{}' || :
  evidence status "$ANSWER"
  ask_gateway /v3/cluster/member/list '{"linearizable":false}' || :
  evidence members "$ANSWER"
}

main() {
  local component processes=''
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  need curl date df ls openssl stat systemctl tail timeout tr uname
  EVIDENCE='' ASIDE_DIR=/nonexistent HOST_DATA_DIR='' HOST_WAL_DIR='' WAL_DIR=''
  read_journal
  find_static_pods
  if [[ -n $JOURNAL_ID ]]; then
    evidence journal "$(<"$RESTORE_JOURNAL")"
    [[ -z ${JOURNAL[static-pods]-} ]] || STATIC_PODS=${JOURNAL[static-pods]}
    ASIDE_DIR=${STATIC_PODS%/*}/manifests.before-$JOURNAL_ID
  fi
  # First: of what comes last there may be no room.
  kept_logs
  manifest_of etcd
  if [[ -n $COMPONENT_MANIFEST ]]; then
    read_manifest "$COMPONENT_MANIFEST"
    MANIFEST=$COMPONENT_MANIFEST
    host_path "$DATA_DIR"
    HOST_DATA_DIR=$HOST_PATH
    evidence flags "$(printf '%s\n' "${ETCD_ARGUMENTS[@]}")"
    if [[ -n $HOST_DATA_DIR && -d $HOST_DATA_DIR ]]; then
      evidence data "$(ls -la -- "$HOST_DATA_DIR" 2>&1; df -- "$HOST_DATA_DIR" 2>&1)"
      for component in "${COMPONENTS[@]}"; do
        component_pids "$component"
        processes+="$component: ${PIDS[*]-}"$'\n'
      done
      evidence processes "$processes"
    fi
    etcd_setting listen-client-urls http://localhost:2379
    choose_url "$FLAG"
    if [[ -n $URL ]]; then
      ENDPOINT=$URL HTTP_ENDPOINT=$URL
      choose_certificates
      ask_everything
    fi
  fi
  describe_image_lines
  evidence manifests "$(ls -la -- "$STATIC_PODS" "${STATIC_PODS%/*}" 2>&1)"
  evidence kubelet-unit "$(systemctl is-active kubelet 2>&1)"
  if type -P journalctl >/dev/null; then
    evidence kubelet "$(timeout 20 journalctl --unit kubelet --lines 25 --no-pager --output short-iso 2>&1)"
  fi
  container_log etcd
  container_log kube-apiserver
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"evidence\":{$EVIDENCE}}"
}

# The images, and with them the versions of etcd and Kubernetes.
describe_image_lines() {
  local component line images=''
  for component in "${COMPONENTS[@]}"; do
    manifest_of "$component"
    [[ -n $COMPONENT_MANIFEST ]] || continue
    while IFS= read -r line || [[ -n $line ]]; do
      [[ ! $line =~ image: ]] || images+="$component $line"$'\n'
    done <"$COMPONENT_MANIFEST"
  done
  evidence images "$images"
}

main
