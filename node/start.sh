#!/bin/bash
# Gives one component its manifest back and starts the kubelet: etcd first, then the API server, which is waited for until it is ready, then the
# controllers.
# Parameters: RestoreId, Component (etcd, api-server, controllers).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# How long the kubelet may take to start a static pod: it looks at the folder every 20 s where it is not told of changes.
readonly START_SECONDS=120
# How long etcd may take to serve before it may reach its peers all the same. Only time is lost by that.
readonly SERVE_SECONDS=60
# How long an API server may take to be ready.
readonly READY_SECONDS=300

# hold_peers: etcd on this node cannot reach its peers, and is told so at once: a rule of the node's routing for what goes out to their port, which
# is the same on all nodes with kubeadm. What comes in is not touched, nor what goes to this node itself, nor what pods with a network of their
# own send (iif lo: made on this node). Without it etcd only takes longer.
hold_peers() {
  local family
  etcd_setting initial-advertise-peer-urls ''
  if ! split_url "${FLAG%%,*}" || ! type -P ip >/dev/null; then
    return 0
  fi
  journal held-port "$URL_PORT"
  for family in -4 -6; do
    ip "$family" rule add priority "$HOLD_PRIORITY" iif lo ipproto tcp dport "$URL_PORT" unreachable ||
      log "no rule for port $URL_PORT ($family); members may wait for each other"
  done
}

# start_etcd: with --experimental-initial-corrupt-check (a feature gate from 3.6), which kubeadm sets, a member asks every peer for its hash before
# it serves anybody. One that cannot be reached is passed over at once, but for one that listens and does not serve yet it waits 7 s (etcd's
# request timeout): started together, members wait for each other. So none reaches another before it serves itself. That their data is the same
# is for CheckEtcd to hold, of all of them, before any client sees it.
start_etcd() {
  component_pids etcd
  if ((${#PIDS[@]} > 0)); then
    # A run of this script that was killed has started it.
    start_component etcd
    return 0
  fi
  read_layout
  hold_peers
  start_component etcd
  await_serving
  release_peers
}

# await_serving: until this member serves its peers; etcd takes connections long before that, and shakes hands.
await_serving() {
  local option file url deadline status
  local -a certificate=()
  for option in cert key; do
    etcd_setting "peer-$option-file" ''
    file=$FLAG
    host_path "$file"
    [[ -z $file || ! -r $HOST_PATH ]] || certificate+=("--$option" "$HOST_PATH")
  done
  etcd_setting listen-peer-urls ''
  url=${FLAG%%,*}
  url=${url/0.0.0.0/127.0.0.1}
  url=${url/\[::\]/[::1]}
  now_ms
  deadline=$((NOW_MS + SERVE_SECONDS * 1000))
  while :; do
    status=0
    env -i PATH="$PATH" curl -q --silent --globoff --noproxy '*' --insecure --connect-timeout 1 --max-time 5 --output /dev/null \
      "${certificate[@]}" "$url/version" 2>/dev/null || status=$?
    # curl's: nothing listens, no answer in time. An answer of any kind will do, also that it does not know this certificate.
    ((status == 7 || status == 28)) || return 0
    now_ms
    if ((NOW_MS >= deadline)); then
      log "etcd does not serve at $url after $SERVE_SECONDS s; its peers are let go all the same"
      return 0
    fi
    sleep 0.1
  done
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

# await_ready: until the API server of this node says that it is, if it has one.
await_ready() {
  local deadline
  now_ms
  deadline=$((NOW_MS + READY_SECONDS * 1000))
  until api_server_ready; do
    [[ -n $API_URL ]] || return 0
    now_ms
    ((NOW_MS < deadline)) ||
      refuse "$EXIT_NOT_HEALTHY" not-healthy "after $READY_SECONDS s the API server at $API_URL does not say that it is ready: ${ANSWER:0:300}; expected 'ok'; look at the container log of kube-apiserver"
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
    etcd) start_etcd ;;
    api-server)
      start_component kube-apiserver
      await_ready
      ;;
    controllers) start_component kube-controller-manager kube-scheduler ;;
  esac
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"component\":\"$component\"}"
}

main
