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

# begins_empty: whether etcd would begin a cluster with nothing in it here: it has no member, or one without a WAL, and is not told to join another
# (etcd, server/etcdserver: it looks for *.wal). An API server serves that, and kubelets delete every pod that it does not know.
begins_empty() {
  local file
  etcd_setting initial-cluster-state new
  [[ $FLAG != existing ]] || return 1
  [[ -d $HOST_DATA_DIR/member ]] || return 0
  for file in "${HOST_WAL_DIR:-$HOST_DATA_DIR/member/wal}"/*.wal; do
    [[ ! -e $file ]] || return 1
  done
}

# stop_kubelet: and nothing else, what it has started runs on.
stop_kubelet() {
  systemctl stop kubelet ||
    refuse "$EXIT_NOT_STOPPED" not-stopped "'systemctl stop kubelet' failed, expected the kubelet to stop; look at 'systemctl status kubelet'"
}

put_all_back() {
  local component
  for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
    put_back "$component"
  done
}

# bring_back: manifests, kubelet and components as they were. A kubelet that was stopped on purpose while what it had started ran on is needed once
# more: only it can start that again. What did not run had been ended on purpose, too, or could not run: its manifest is out of the folder then.
bring_back() {
  local component running=${JOURNAL[was-running]-}
  local -a wanted=()
  if [[ ${JOURNAL[was-kubelet]} == yes ]]; then
    put_all_back
    start_kubelet
    return 0
  fi
  if [[ -z $running ]]; then
    # The journal of a version that did not look at each of them.
    running=none
    [[ ${JOURNAL[was-etcd]-no} == no && ${JOURNAL[was-api-server]-no} != yes ]] || running=${COMPONENTS[*]}
  fi
  stop_kubelet
  mkdir -p -- "$ASIDE_DIR"
  for component in "${COMPONENTS[@]}"; do
    if [[ " $running " == *" $component "* ]]; then
      put_back "$component"
      [[ ! -f $STATIC_PODS/$component.yaml ]] || wanted+=("$component")
    else
      # A run of this script that was killed may have put it back.
      set_aside "$component"
    fi
  done
  if ((${#wanted[@]} > 0)); then
    start_kubelet
    await_processes "${wanted[@]}"
    stop_kubelet
  fi
  put_all_back
}

# await_processes COMPONENT...: until each has had a process. What ends again and again need not run at the same time.
await_processes() {
  local component deadline
  local -a missing=("$@") still
  now_ms
  deadline=$((NOW_MS + 120000))
  while :; do
    still=()
    for component in "${missing[@]}"; do
      component_pids "$component"
      ((${#PIDS[@]} > 0)) || still+=("$component")
    done
    ((${#still[@]} > 0)) || return 0
    missing=("${still[@]}")
    now_ms
    ((NOW_MS < deadline)) ||
      refuse "$EXIT_NOT_STARTED" not-started "120 s after the kubelet was started there is no process of ${missing[*]}, expected the kubelet to start it; look at 'journalctl -u kubelet'; the old data is in its place"
    sleep 0.2
  done
}

main() {
  local component served more=''
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Served '^(yes|no|held)$'
  served=$PARAMETER
  begin_restore
  if [[ $served != no && ${JOURNAL[undone]-} == yes ]]; then
    refuse "$EXIT_SWAP" swap "restore $RESTORE_ID was undone on this node and is served on another, expected one of both everywhere; stop this node and the others where it was undone and remove their journals, as docs/restore.md says (Undone on some nodes and served on others), then start an execution with {\"rollback\": \"$RESTORE_ID\"}"
  fi
  if [[ -z $JOURNAL_ID || -z ${JOURNAL[stop]-} || ${JOURNAL[undone]-} == yes ]]; then
    # What is still under way to this node must find that it is over.
    [[ -z $JOURNAL_ID || ${JOURNAL[undone]-} == yes ]] || journal undone yes
    [[ ${JOURNAL[left-stopped]-} != yes ]] || more=',"leftStopped":true'
    result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"undone\":false,\"finishedForward\":false$more}"
    return 0
  fi
  if [[ $served == no && -n ${JOURNAL[served]-} ]]; then
    refuse "$EXIT_ALREADY_SERVED" already-served "an API server of this node has served the restored data, expected none: renaming back would show clients revisions that go back; start an execution with {\"rollback\": \"$RESTORE_ID\"}, which says how to go back to the data from before with a higher revision"
  fi
  journal rollback begun
  keep_failed || log 'what failed could not be kept for the evidence'
  if [[ $served == no ]]; then
    if [[ -n ${JOURNAL[swap]-} ]]; then
      # The restored member may run by now.
      stop_all
      await_quiet "$QUIET_MS"
      swap_out
    fi
    for component in "${COMPONENTS[@]}"; do
      hold_again "$component"
    done
    read_layout
    if begins_empty; then
      journal left-stopped yes
      more=',"leftStopped":true'
      stop_kubelet
      put_all_back
    else
      # Since a run of this script that was killed, somebody may have brought the data.
      [[ -z ${JOURNAL[left-stopped]-} ]] || journal left-stopped no
      bring_back
    fi
    journal undone yes
    result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"undone\":true,\"finishedForward\":false$more}"
    return 0
  fi
  if [[ ${JOURNAL[swap]-} != ended ]]; then
    # No other node serves before every member was checked: this one was, so it has swapped.
    refuse "$EXIT_SWAP" swap "the restored data is served elsewhere and this node has not swapped to the end, expected it to have; look at $HOST_DATA_DIR: the restored member is in $STAGE or in place, the old one in $KEPT; see docs/restore.md"
  fi
  # As start.sh: from here on nobody may rename back.
  [[ -n ${JOURNAL[served]-} ]] || journal served yes
  put_back etcd
  put_back kube-apiserver
  # Whoever asks for an undo later need not know that the restore was to hold them back.
  if [[ $served == yes && ${JOURNAL[hold]-} != controllers ]]; then
    put_back kube-controller-manager
    put_back kube-scheduler
  elif [[ -f $ASIDE_DIR/kube-controller-manager.yaml || -f $ASIDE_DIR/kube-scheduler.yaml ]]; then
    more=',"held":true'
  fi
  start_kubelet
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"undone\":false,\"finishedForward\":true$more}"
}

main
