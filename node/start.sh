#!/bin/bash
# Gives one component its manifest back and starts the kubelet: etcd first, then the API server, then the controllers.
# Parameters: RestoreId, Component (etcd, api-server, controllers).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# How long the kubelet may take to start a static pod: it looks at the folder every 20 s where it is not told of changes.
readonly START_SECONDS=120

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
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Component '^(etcd|api-server|controllers)$'
  component=$PARAMETER
  begin_restore
  require_journal swap
  [[ ${JOURNAL[swap]} == ended && ${JOURNAL[undone]-} != yes ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "restore $RESTORE_ID has not put the restored member in place on this node, or was rolled back, expected it to be in place; start an execution with {\"rollback\": \"$RESTORE_ID\"}"
  # From here on clients may read the restored data: renaming back would show them revisions that go back.
  [[ $component == etcd ]] || journal served yes
  journal start "$component"
  case $component in
    etcd) start_component etcd ;;
    api-server) start_component kube-apiserver ;;
    controllers) start_component kube-controller-manager kube-scheduler ;;
  esac
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"component\":\"$component\"}"
}

main
