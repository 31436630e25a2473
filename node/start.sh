#!/bin/bash
# Gives one component its manifest back and starts the kubelet: etcd first, then the API server, then the controllers.
# Parameters: RestoreId, Component (etcd, api-server, controllers), StartAfter (etcd: peer URLs of the members before this one, separated by blanks).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# How long the kubelet may take to start a static pod: it looks at the folder every 20 s where it is not told of changes.
readonly START_SECONDS=120
# How long the members before this one may take to serve, all together. Only time is lost by going on without them.
readonly TURN_SECONDS=20

# await_turn: until the members before this one serve their peers. With --experimental-initial-corrupt-check, which kubeadm sets, a member asks
# every peer for its hash before it serves anybody: of a peer that is not started it hears at once that nothing listens, but for one that listens
# and does not serve yet it waits 7 s (etcd's request timeout). Started all at once, members wait for each other.
await_turn() {
  local url deadline option flag
  local -a certificate=()
  (($# > 0)) || return 0
  read_layout
  for option in cert key; do
    etcd_setting "peer-$option-file" ''
    flag=$FLAG
    host_path "$flag"
    [[ -z $flag || ! -r $HOST_PATH ]] || certificate+=("--$option" "$HOST_PATH")
  done
  now_ms
  deadline=$((NOW_MS + TURN_SECONDS * 1000))
  for url in "$@"; do
    until serves "$url"; do
      now_ms
      if ((NOW_MS >= deadline)); then
        log "the members before this one do not serve after $TURN_SECONDS s (now $url); starting all the same"
        return 0
      fi
      sleep 0.1
    done
  done
}

# serves URL: whether a member answers there, with the peer certificate of this one: etcd shakes hands long before it serves. An answer of any
# kind will do, also that it does not know this certificate.
serves() {
  local status=0
  env -i PATH="$PATH" curl -q --silent --globoff --noproxy '*' --insecure --connect-timeout 1 --max-time 1 --output /dev/null \
    "${certificate[@]}" "$1/version" 2>/dev/null || status=$?
  case $status in
    # curl's: the name is not known, nothing listens, no answer in time.
    6 | 7 | 28) return 1 ;;
  esac
}

start_component() {
  local component missing deadline
  for component in "$@"; do
    put_back "$component"
  done
  start_kubelet
  now_ms
  deadline=$((NOW_MS + START_SECONDS * 1000))
  while :; do
    missing=''
    for component in "$@"; do
      # A node may have no API server, or controllers of another make: what had no manifest is not waited for.
      [[ -f $STATIC_PODS/$component.yaml ]] || continue
      component_pids "$component"
      ((${#PIDS[@]} > 0)) || missing+=" $component"
    done
    [[ -n $missing ]] || return 0
    now_ms
    ((NOW_MS < deadline)) ||
      refuse "$EXIT_NOT_STARTED" not-started "$START_SECONDS s after the kubelet got the manifests there is no process of$missing, expected the kubelet to start it; look at 'journalctl -u kubelet' and 'crictl ps -a'"
    sleep 0.1
  done
}

main() {
  local component
  local -a after
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Component '^(etcd|api-server|controllers)$'
  component=$PARAMETER
  parameter StartAfter '^[]A-Za-z0-9.:/ _%[-]*$'
  read -r -a after <<<"$PARAMETER"
  begin_restore
  require_journal swap
  [[ ${JOURNAL[swap]} == ended && ${JOURNAL[undone]-} != yes ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "restore $RESTORE_ID has not put the restored member in place on this node, or was rolled back, expected it to be in place; start an execution with {\"rollback\": \"$RESTORE_ID\"}"
  # From here on clients may read the restored data: renaming back would show them revisions that go back.
  [[ $component == etcd ]] || journal served yes
  journal start "$component"
  case $component in
    etcd)
      await_turn "${after[@]}"
      start_component etcd
      ;;
    api-server) start_component kube-apiserver ;;
    controllers) start_component kube-controller-manager kube-scheduler ;;
  esac
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"component\":\"$component\"}"
}

main
