#!/bin/bash
# Undoes on this node what a restore did: the old member back in its place, the manifests and the kubelet as they were. Once an API server
# has served the restored data nothing is renamed any more: everything is started on that data instead.
# Parameters: RestoreId, Served (yes, no, held: yes, but the controllers stay out).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"
# shellcheck source=node/member.sh
source "$(dirname "${BASH_SOURCE[0]}")/member.sh"

# bring_back: the kubelet as it was. Stopped on purpose while what it had started ran on, it is needed once more: only it can start that again.
bring_back() {
  local component missing deadline
  if [[ ${JOURNAL[was-kubelet]} == yes ]]; then
    start_kubelet
    return 0
  fi
  if [[ ${JOURNAL[was-etcd]-no} != no || ${JOURNAL[was-api-server]-no} == yes ]]; then
    start_kubelet
    now_ms
    deadline=$((NOW_MS + 120000))
    while :; do
      missing=''
      for component in "${COMPONENTS[@]}"; do
        [[ -f $STATIC_PODS/$component.yaml ]] || continue
        component_pids "$component"
        ((${#PIDS[@]} > 0)) || missing+=" $component"
      done
      [[ -n $missing ]] || break
      now_ms
      ((NOW_MS < deadline)) ||
        refuse "$EXIT_NOT_STARTED" not-started "120 s after the kubelet was started there is no process of$missing, expected the kubelet to start it; look at 'journalctl -u kubelet'; the old data is in its place"
      sleep 0.2
    done
  fi
  systemctl stop kubelet ||
    refuse "$EXIT_NOT_STOPPED" not-stopped "'systemctl stop kubelet' failed, expected the kubelet to be stopped, as before the restore"
}

main() {
  local component served
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Served '^(yes|no|held)$'
  served=$PARAMETER
  begin_restore
  if [[ $served != no && ${JOURNAL[undone]-} == yes ]]; then
    refuse "$EXIT_SWAP" swap "restore $RESTORE_ID was undone on this node and is served on another, expected one of both everywhere; stop kube-apiserver and etcd where the restored data is served, as docs/restore.md says, and start an execution with {\"rollback\": \"$RESTORE_ID\"}"
  fi
  if [[ -z $JOURNAL_ID || -z ${JOURNAL[stop]-} || ${JOURNAL[undone]-} == yes ]]; then
    # What is still under way to this node must find that it is over.
    [[ -z $JOURNAL_ID || ${JOURNAL[undone]-} == yes ]] || journal undone yes
    result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"undone\":false,\"finishedForward\":false}"
    return 0
  fi
  if [[ $served == no && -n ${JOURNAL[served]-} ]]; then
    refuse "$EXIT_ALREADY_SERVED" already-served "an API server of this node has served the restored data, expected none: renaming back would show clients revisions that go back; start an execution with {\"rollback\": \"$RESTORE_ID\"}, which says how to go back to the data from before with a higher revision"
  fi
  journal rollback begun
  if [[ $served == no ]]; then
    if [[ -n ${JOURNAL[swap]-} ]]; then
      # The restored member may run by now.
      stop_all
      swap_out
    fi
    for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
      put_back "$component"
    done
    bring_back
    journal undone yes
    result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"undone\":true,\"finishedForward\":false}"
    return 0
  fi
  if [[ ${JOURNAL[swap]-} != ended ]]; then
    # No other node serves before every member was checked: this one was, so it has swapped.
    refuse "$EXIT_SWAP" swap "the restored data is served elsewhere and this node has not swapped to the end, expected it to have; look at $HOST_DATA_DIR: the restored member is in $STAGE or in place, the old one in $KEPT; see docs/restore.md"
  fi
  put_back etcd
  put_back kube-apiserver
  if [[ $served == yes ]]; then
    put_back kube-controller-manager
    put_back kube-scheduler
  fi
  start_kubelet
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"undone\":false,\"finishedForward\":true}"
}

main
