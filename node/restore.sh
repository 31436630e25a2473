#!/bin/bash
# What the scripts of a restore share: the journal, the layout that it remembers, the four components, and what etcd and the API server say.
# What only swap and rollback do is in member.sh: a document of SSM has 64 KB.
# Put between etcd.sh and the script when its SSM document is made (lib/script-document.ts).
#
# The journal (RESTORE_JOURNAL) is this node's memory of a restore. Its first line names the restore, each further one is "key value", the
# last one of a key counts. A phase is written before it acts, so whatever is killed is found, and done again or undone, by the next script.
#
# shellcheck disable=SC2034,SC2154  # what is defined here is used by the script that follows it, and the other way round

readonly RESTORE_DIR=$HOME_DIR/restore KEY_DIR=/run/etcd-backup
# How long a snapshot, an upload or another script of the restore may still hold the node's lock. Less than the shortest of their documents has
# (lib/restore.ts), or the agent ends the script before it can say that the node is busy.
readonly LOCK_SECONDS=240
# In the order in which they are stopped. Other static pods stay: a load balancer in front of the API servers may be one.
readonly COMPONENTS=(kube-controller-manager kube-scheduler kube-apiserver etcd)

declare -A JOURNAL=()
RESTORE_ID='' HOST_DATA_DIR='' HOST_WAL_DIR='' QUIET_SINCE=''
# What had to be killed.
KILLED=()

# ---------------------------------------------------------------- the journal

# read_journal: sets JOURNAL_ID ('' when there is none) and JOURNAL. A last line without an end is what a crash left of it.
read_journal() {
  local line
  JOURNAL=()
  read_restore_id
  [[ -n $JOURNAL_ID ]] || return 0
  while IFS= read -r line; do
    [[ ! $line =~ ^([a-z-]+)\ (.*)$ ]] || JOURNAL[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
  done <"$RESTORE_JOURNAL"
}

# journal KEY VALUE: remembers it, on disk before this returns.
journal() {
  local end
  end=$(tail -c 1 -- "$RESTORE_JOURNAL" | od -An -tx1)
  # What a crash cut off must not swallow the next line.
  [[ $end == *0a* ]] || printf '\n' >>"$RESTORE_JOURNAL"
  printf '%s %s\n' "$1" "$2" >>"$RESTORE_JOURNAL"
  sync -- "$RESTORE_JOURNAL"
  JOURNAL[$1]=$2
  log "restore $RESTORE_ID: $1 $2"
}

# begin_journal: the journal of this restore, whole or not at all.
begin_journal() {
  install -d -m 0700 -o root -g root -- "$RESTORE_DIR"
  printf 'restore %s\n' "$RESTORE_ID" >"$RESTORE_JOURNAL.next"
  sync -- "$RESTORE_JOURNAL.next"
  mv -T -- "$RESTORE_JOURNAL.next" "$RESTORE_JOURNAL"
  sync -- "$RESTORE_DIR"
  read_journal
}

# begin_restore COMMAND...: what every script but inspect and preflight begins with: the lock, and the journal of this very restore.
begin_restore() {
  need cat chmod chown curl date df env flock install ls mkdir mv od openssl readlink rm rmdir sleep stat sync systemctl tail timeout uname
  lock_node "$LOCK_SECONDS"
  read_journal
  if [[ -n $JOURNAL_ID && $JOURNAL_ID != "$RESTORE_ID" ]]; then
    refuse "$EXIT_OTHER_RESTORE" other-restore "$RESTORE_JOURNAL is of restore $JOURNAL_ID, expected $RESTORE_ID; end that one first: start an execution with {\"rollback\": \"$JOURNAL_ID\"}"
  fi
  [[ -z $JOURNAL_ID ]] || use_layout
  # Of a script that was killed while etcd started.
  release_peers
}

# require_journal KEY: the journal must be there and remember KEY.
require_journal() {
  [[ -n $JOURNAL_ID ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "no journal of a restore on this node, expected that of $RESTORE_ID, which its preflight writes; start a new restore"
  [[ -n ${JOURNAL[$1]-} ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "the journal of restore $RESTORE_ID does not have '$1', expected it from an earlier step; roll back: start an execution with {\"rollback\": \"$RESTORE_ID\"}"
}

# ---------------------------------------------------------------- the layout

# read_layout: from the manifest of etcd, in its folder or where ASIDE_DIR has it. Sets MANIFEST, HOST_DATA_DIR, WAL_DIR, HOST_WAL_DIR and
# what read_manifest sets.
read_layout() {
  MANIFEST=$STATIC_PODS/etcd.yaml
  [[ -r $MANIFEST ]] || MANIFEST=$ASIDE_DIR/etcd.yaml
  [[ -r $MANIFEST ]] ||
    refuse "$EXIT_NO_ETCD" no-etcd "no readable etcd.yaml in $STATIC_PODS or $ASIDE_DIR, expected kubeadm's static pod of etcd; a machine that lost its manifests joins by 'kubeadm join' after the restore"
  read_manifest "$MANIFEST"
  etcd_setting config-file ''
  [[ -z $FLAG ]] ||
    refuse "$EXIT_CONFIG_FILE" config-file "$MANIFEST starts etcd with --config-file=$FLAG, expected flags as kubeadm writes them; etcd ignores every flag beside a config file, so move its settings into flags"
  host_path "$DATA_DIR"
  HOST_DATA_DIR=$HOST_PATH
  [[ -n $HOST_DATA_DIR ]] ||
    refuse "$EXIT_LAYOUT" layout "--data-dir=$DATA_DIR of $MANIFEST lies on no hostPath volume, expected one; correct the manifest's volumes"
  if [[ ! -d $HOST_DATA_DIR ]]; then
    # What was there when the node was stopped is on a disk that is not mounted now: an empty directory in its place would hide that.
    [[ -z ${JOURNAL[stop]-} ]] ||
      refuse "$EXIT_LAYOUT" layout "$HOST_DATA_DIR is gone since the node was stopped, expected it; mount its disk, then start an execution with {\"rollback\": \"$RESTORE_ID\"}"
    # Gone with its disk before all this, it is made as kubeadm makes it.
    install -d -m 0700 -o "${RUN_AS:-root}" -g "${RUN_AS_GROUP:-root}" -- "$HOST_DATA_DIR"
  fi
  HOST_DATA_DIR=$(readlink -f -- "$HOST_DATA_DIR")
  etcd_setting wal-dir ''
  WAL_DIR=$FLAG HOST_WAL_DIR=''
  [[ -n $WAL_DIR ]] || return 0
  host_path "$WAL_DIR"
  HOST_WAL_DIR=$HOST_PATH
  [[ -n $HOST_WAL_DIR ]] ||
    refuse "$EXIT_LAYOUT" layout "--wal-dir=$WAL_DIR of $MANIFEST lies on no hostPath volume, expected one; correct the manifest's volumes"
  # Before it is made: with the member under way between two names, a directory in its place would stop every later run.
  wal_in_member
  [[ -n $HOST_WAL_DIR ]] || return 0
  if [[ ! -d $HOST_WAL_DIR ]]; then
    # As above.
    [[ -z ${JOURNAL[stop]-} ]] ||
      refuse "$EXIT_LAYOUT" layout "$HOST_WAL_DIR is gone since the node was stopped, expected it; mount its disk, then start an execution with {\"rollback\": \"$RESTORE_ID\"}"
    install -d -m 0700 -o "${RUN_AS:-root}" -g "${RUN_AS_GROUP:-root}" -- "$HOST_WAL_DIR"
  fi
  HOST_WAL_DIR=$(readlink -f -- "$HOST_WAL_DIR")
  wal_in_member
}

# wal_in_member: a --wal-dir that says where the WAL is anyway is none; elsewhere inside the member it could not be swapped.
wal_in_member() {
  if [[ ${HOST_WAL_DIR%/} == "${HOST_DATA_DIR%/}/member/wal" ]]; then
    WAL_DIR='' HOST_WAL_DIR=''
  fi
  [[ $HOST_WAL_DIR/ != "${HOST_DATA_DIR%/}/member/"* ]] ||
    refuse "$EXIT_LAYOUT" layout "--wal-dir=$WAL_DIR lies inside the member's directory, expected it outside; correct $MANIFEST"
}

# stray_manifest: sets STRAY to why a file in the folder of static pods is one too many, or to ''. The kubelet reads every file there that
# does not begin with a dot, whatever its end: a copy of a manifest would be started in the middle of a restore.
stray_manifest() {
  local file text component
  STRAY=''
  for file in "$STATIC_PODS"/*; do
    [[ -f $file ]] || continue
    text=$'\n'$(tr -d '\000\r' <"$file")$'\n'
    for component in "${COMPONENTS[@]}"; do
      [[ $file != "$STATIC_PODS/$component.yaml" && $text == *$'\n'"  name: $component"$'\n'* ]] || continue
      STRAY="$file is another manifest of $component, expected only $component.yaml: the kubelet reads every file of $STATIC_PODS, whatever its end, and would start it in the middle of a restore; move it out of the folder"
    done
  done
}

# own_mount DIR: whether DIR, or anything below it, is a mount of its own: it could not be renamed.
own_mount() {
  local point
  while read -r _ _ _ _ point _; do
    printf -v point '%b' "$point"
    [[ $point != "$1" && $point != "$1"/* ]] || return 0
  done </proc/self/mountinfo
  return 1
}

# use_layout: what preflight found, so that every later script acts on the same paths whatever runs by then.
use_layout() {
  STATIC_PODS=${JOURNAL[static-pods]-} HOST_DATA_DIR=${JOURNAL[data-dir]-} HOST_WAL_DIR=${JOURNAL[wal-dir]-}
  ASIDE_DIR=${STATIC_PODS%/*}/manifests.before-$RESTORE_ID
  STAGE=$HOST_DATA_DIR/.restore-$RESTORE_ID KEPT=$HOST_DATA_DIR/member.before-$RESTORE_ID
  WAL_STAGE=$HOST_WAL_DIR/.restore-$RESTORE_ID WAL_KEPT=$HOST_WAL_DIR/wal.before-$RESTORE_ID
  WORK=$RESTORE_DIR/$RESTORE_ID
}

# manifest_of COMPONENT: sets COMPONENT_MANIFEST to where its manifest is now, or to ''.
manifest_of() {
  local file
  COMPONENT_MANIFEST=''
  for file in "$STATIC_PODS/$1.yaml" "$ASIDE_DIR/$1.yaml"; do
    if [[ -f $file ]]; then
      COMPONENT_MANIFEST=$file
      return 0
    fi
  done
}

# set_aside COMPONENT / put_back COMPONENT: its manifest out of the folder of static pods and in again. A rename on one file system: the
# kubelet never reads half of it, and not a byte, right or time of it changes.
set_aside() {
  [[ -f $STATIC_PODS/$1.yaml ]] || return 0
  [[ ! -e $ASIDE_DIR/$1.yaml ]] ||
    refuse "$EXIT_NOT_STOPPED" not-stopped "both $STATIC_PODS/$1.yaml and $ASIDE_DIR/$1.yaml exist, expected one: somebody wrote a manifest during the restore; decide which one counts and move the other away"
  mv -T -- "$STATIC_PODS/$1.yaml" "$ASIDE_DIR/$1.yaml"
  sync -- "$STATIC_PODS" "$ASIDE_DIR"
}

put_back() {
  [[ -f $ASIDE_DIR/$1.yaml ]] || return 0
  [[ ! -e $STATIC_PODS/$1.yaml ]] ||
    refuse "$EXIT_NOT_STARTED" not-started "both $STATIC_PODS/$1.yaml and $ASIDE_DIR/$1.yaml exist, expected one: somebody wrote a manifest during the restore; decide which one counts and move the other away"
  mv -T -- "$ASIDE_DIR/$1.yaml" "$STATIC_PODS/$1.yaml"
  sync -- "$STATIC_PODS" "$ASIDE_DIR"
}

# find_held COMPONENT: sets HELD to the restores that hold a component back: that have its manifest aside while it is not among the static pods.
find_held() {
  local file
  HELD=()
  manifest_of "$1"
  [[ -z $COMPONENT_MANIFEST ]] || return 0
  for file in "${STATIC_PODS%/*}"/manifests.before-*/"$1.yaml"; do
    [[ ! $file =~ /manifests\.before-([0-9]{8}T[0-9]{6}Z)/[^/]+$ || ! -f $file ]] || HELD+=("${BASH_REMATCH[1]}")
  done
}

# adopt COMPONENT / hold_again COMPONENT: what an earlier restore holds back is this one's to start or to hold, and goes back there when this one
# is undone. Held by several, nobody knows which manifest counts: the plan says so, and they stay.
adopt() {
  find_held "$1"
  ((${#HELD[@]} == 1)) || return 0
  journal "held-$1" "${HELD[0]}"
  mkdir -p -- "$ASIDE_DIR"
  move_manifest "$1" "${STATIC_PODS%/*}/manifests.before-${HELD[0]}" "$ASIDE_DIR"
}

hold_again() {
  local folder=${STATIC_PODS%/*}/manifests.before-${JOURNAL[held-$1]-}
  [[ -n ${JOURNAL[held-$1]-} && -f $ASIDE_DIR/$1.yaml ]] || return 0
  [[ ! -e $folder/$1.yaml ]] ||
    refuse "$EXIT_NOT_STARTED" not-started "both $folder/$1.yaml and $ASIDE_DIR/$1.yaml exist, expected one: somebody wrote a manifest during the restore; decide which one counts and move the other away"
  mkdir -p -- "$folder"
  move_manifest "$1" "$ASIDE_DIR" "$folder"
}

# move_manifest COMPONENT FROM TO: by a rename on one file system, on disk before this returns.
move_manifest() {
  mv -T -- "$2/$1.yaml" "$3/$1.yaml"
  sync -- "$2" "$3" "${STATIC_PODS%/*}"
}

# ---------------------------------------------------------------- the processes

# What tells a component's process from another of that name on the host: the flag that its manifest gives it.
component_flag() {
  case $1 in
    etcd) DISTINCT_FLAG=data-dir ;;
    kube-apiserver) DISTINCT_FLAG=etcd-servers ;;
    *) DISTINCT_FLAG=kubeconfig ;;
  esac
}

# component_pids COMPONENT: sets PIDS to the host's processes that run by its manifest.
component_pids() {
  local comm pid name expected peers='' owner=0
  PIDS=()
  manifest_of "$1"
  [[ -n $COMPONENT_MANIFEST ]] || return 0
  component_flag "$1"
  manifest_arguments "$COMPONENT_MANIFEST"
  flag "$DISTINCT_FLAG" '' "${ARGUMENTS[@]}"
  expected=$FLAG
  if [[ $1 == etcd ]]; then
    # Another etcd of the host may have the same directory in its own container; two members cannot have one peer URL.
    flag initial-advertise-peer-urls '' "${ARGUMENTS[@]}"
    peers=$FLAG
    owner=${RUN_AS:-$(stat -c %u -- "$HOST_DATA_DIR" 2>/dev/null || printf 0)}
  fi
  for comm in /proc/[0-9]*/comm; do
    name=''
    read -r name 2>/dev/null <"$comm" || :
    # The kernel keeps 15 characters.
    [[ $name == "${1:0:15}" ]] || continue
    pid=${comm//[!0-9]/}
    if [[ ! /proc/$pid/ns/net -ef /proc/self/ns/net || ! /proc/$pid/ns/user -ef /proc/self/ns/user ]]; then
      continue
    fi
    [[ $1 != etcd ]] || of_host "$pid" "$owner" || continue
    read_arguments "/proc/$pid/cmdline"
    if [[ $1 == etcd ]]; then
      flag initial-advertise-peer-urls '' "${ARGUMENTS[@]}"
      [[ $FLAG == "$peers" ]] || continue
    fi
    flag "$DISTINCT_FLAG" '' "${ARGUMENTS[@]}"
    # A manifest whose arguments cannot be read here says nothing about which process is meant: of these there is one.
    if [[ $FLAG == "$expected" || ($1 != etcd && -z $expected) ]]; then
      PIDS+=("$pid")
    fi
  done
}

# kubelet_active: whether systemd runs the kubelet.
kubelet_active() {
  local state
  state=$(systemctl is-active kubelet 2>/dev/null) || :
  # In a crash loop it is activating: nobody has stopped it.
  [[ $state == active || $state == activating || $state == reloading ]]
}

# end_components MS COMPONENT...: TERM, and after so many milliseconds KILL. Adds to KILLED.
end_components() {
  local patience=$1 component pid alive deadline
  shift
  now_ms
  deadline=$((NOW_MS + patience))
  for component in "$@"; do
    component_pids "$component"
    for pid in "${PIDS[@]}"; do
      # It may end between the look and the signal.
      kill -TERM "$pid" 2>/dev/null || :
    done
  done
  while :; do
    alive=no
    for component in "$@"; do
      component_pids "$component"
      ((${#PIDS[@]} == 0)) || alive=yes
    done
    [[ $alive == yes ]] || return 0
    now_ms
    ((NOW_MS < deadline)) || break
    sleep 0.1
  done
  for component in "$@"; do
    component_pids "$component"
    ((${#PIDS[@]} > 0)) || continue
    KILLED+=("$component")
    for pid in "${PIDS[@]}"; do
      kill -KILL "$pid" 2>/dev/null || :
    done
  done
}

# split_url URL: sets URL_HOST and URL_PORT of scheme://host:port; an IPv6 host without its brackets.
split_url() {
  URL_HOST='' URL_PORT=''
  [[ $1 =~ ^https?://(\[([^]]+)\]|([^]:/[]+)):([0-9]{1,5})/?$ ]] || return 1
  URL_HOST=${BASH_REMATCH[2]:-${BASH_REMATCH[3]}} URL_PORT=${BASH_REMATCH[4]}
}

# answers URL: whether something listens there.
answers() {
  split_url "$1" || return 1
  # shellcheck disable=SC2016  # they are the inner bash's arguments
  timeout 2 bash -c 'exec 8<>"/dev/tcp/$1/$2"' _ "$URL_HOST" "$URL_PORT" 2>/dev/null
}

# etcd_ports: sets ETCD_URLS to what etcd listens on for clients and peers, with an address that can be connected to.
etcd_ports() {
  local list url
  local -a urls
  ETCD_URLS=()
  for list in listen-client-urls listen-peer-urls; do
    etcd_setting "$list" ''
    IFS=, read -r -a urls <<<"$FLAG"
    for url in "${urls[@]}"; do
      url=${url/0.0.0.0/127.0.0.1}
      ETCD_URLS+=("${url/\[::\]/[::1]}")
    done
  done
  # An API server that runs on would go on with the restored etcd before anybody has checked it.
  api_server_url
  [[ -z $API_URL ]] || ETCD_URLS+=("$API_AT")
}

# is_quiet: nothing of the four runs, etcd's ports are closed, and nobody has the database open.
is_quiet() {
  local component url
  NOISE=''
  for component in "${COMPONENTS[@]}"; do
    component_pids "$component"
    ((${#PIDS[@]} == 0)) || NOISE+=" $component runs as pid ${PIDS[*]};"
  done
  for url in "${ETCD_URLS[@]}"; do
    ! answers "$url" || NOISE+=" something listens at $url;"
  done
  if [[ -f $HOST_DATA_DIR/member/snap/db ]] && ! flock -n "$HOST_DATA_DIR/member/snap/db" true; then
    NOISE+=" $HOST_DATA_DIR/member/snap/db is open;"
  fi
  [[ -z $NOISE ]]
}

# How long nothing may run, listen or hold the database before it counts as stopped.
readonly QUIET_MS=1000

# stop_all: manifests aside, the kubelet stopped, the processes ended. Safe to do twice. Sets QUIET_SINCE.
stop_all() {
  local component
  mkdir -p -- "$ASIDE_DIR"
  read_layout
  etcd_ports
  for component in "${COMPONENTS[@]}"; do
    set_aside "$component"
  done
  # A kubelet that has not reached the API server since its start ignores that a manifest went away, and would start what we end.
  systemctl stop kubelet ||
    refuse "$EXIT_NOT_STOPPED" not-stopped "'systemctl stop kubelet' failed, expected the kubelet to stop; look at 'systemctl status kubelet'"
  # etcd last: what the API servers have confirmed is in it then.
  end_components 10000 kube-controller-manager kube-scheduler kube-apiserver
  # The others end at once; a leader whose peers stop as well tries for 7 s to hand its lead over. What it has confirmed is on disk, in WAL and
  # database, which are made to be read after a crash.
  end_components 500 etcd
  stop_sandboxes
  QUIET_SINCE=''
  await_quiet 0
}

# await_quiet MS: until it has been quiet for so long since QUIET_SINCE (milliseconds of the node's uptime, '' for never); what runs is ended.
await_quiet() {
  local deadline
  now_ms
  deadline=$((NOW_MS + 60000))
  # Of before a boot, it says nothing.
  if [[ ! $QUIET_SINCE =~ ^[0-9]{1,15}$ ]] || ((QUIET_SINCE > NOW_MS)); then
    QUIET_SINCE=''
  fi
  while :; do
    if is_quiet; then
      now_ms
      QUIET_SINCE=${QUIET_SINCE:-$NOW_MS}
      ((NOW_MS - QUIET_SINCE < $1)) || return 0
    else
      QUIET_SINCE=''
      end_components 5000 "${COMPONENTS[@]}"
      now_ms
      ((NOW_MS < deadline)) ||
        refuse "$EXIT_NOT_STOPPED" not-stopped "60 s after the kubelet stopped:$NOISE expected none of it; end it by hand, and find out what starts it"
    fi
    sleep 0.2
  done
}

# stop_sandboxes: where there is crictl, the pods of the components, so that the kubelet starts them afresh.
stop_sandboxes() {
  local component
  local -a ids
  type -P crictl >/dev/null || return 0
  for component in "${COMPONENTS[@]}"; do
    # By kubeadm's labels: etcd-events-… or kube-apiserver-lb-… are pods of somebody else.
    mapfile -t ids < <(timeout 20 crictl pods -q --namespace kube-system --label "component=$component" --label tier=control-plane 2>/dev/null)
    # What the runtime does not stop any more does not run either: is_quiet looks at processes.
    ((${#ids[@]} == 0)) || timeout 30 crictl stopp "${ids[@]}" >/dev/null 2>&1 || log "crictl stopp of $component did not succeed"
  done
}

# start_kubelet: and it stays up.
start_kubelet() {
  systemctl start kubelet ||
    refuse "$EXIT_NOT_STARTED" not-started "'systemctl start kubelet' failed, expected the kubelet to run; look at 'systemctl status kubelet' and 'journalctl -u kubelet'"
}

# ---------------------------------------------------------------- members side by side

# Of the rule that start.sh makes, for as long as etcd starts. Low, so that no table that a network plugin has made is asked before it; the table
# of the node's own addresses is at 0.
readonly HOLD_PRIORITY=238

# release_peers: takes that rule away again, as often as it is there.
release_peers() {
  local family rule port=${JOURNAL[held-port]-none}
  [[ $port != none ]] || return 0
  rule="ipproto tcp dport $port unreachable"
  for family in -4 -6; do
    # shellcheck disable=SC2086  # words of ours and a port
    while ip "$family" rule del priority "$HOLD_PRIORITY" $rule 2>/dev/null; do :; done
    [[ $(ip "$family" rule show 2>/dev/null || :) != *"$rule"* ]] ||
      refuse "$EXIT_NOT_STARTED" not-started "'ip $family rule del priority $HOLD_PRIORITY $rule' failed, expected the rule to go: it keeps etcd from its peers; run it by hand"
  done
  journal held-port none
}

# ---------------------------------------------------------------- what etcd and the API server say

# ask_status: sets STATUS_* of this node's member. Needs no quorum.
ask_status() {
  ask_gateway /v3/maintenance/status '{}' || return 1
  json_number member_id
  hex_of "$FIELD"
  STATUS_MEMBER=$HEX
  json_number cluster_id
  hex_of "$FIELD"
  STATUS_CLUSTER=$HEX
  json_number revision
  STATUS_REVISION=${FIELD:-0}
  json_number leader
  hex_of "$FIELD"
  STATUS_LEADER=$HEX
  json_number raft_term
  STATUS_TERM=${FIELD:-0}
  json_number raftIndex
  STATUS_INDEX=${FIELD:-0}
  json_number raftAppliedIndex
  STATUS_APPLIED=${FIELD:-0}
  json_number dbSize
  STATUS_SIZE=${FIELD:-0}
  json_number dbSizeInUse
  STATUS_IN_USE=${FIELD:-0}
  STATUS_LEARNER=false
  [[ $ANSWER != *'"isLearner":true'* ]] || STATUS_LEARNER=true
}

# can_read: whether a linearizable read works: a quorum stands behind this member.
can_read() {
  # /registry/
  ask_gateway /v3/kv/range '{"key":"L3JlZ2lzdHJ5Lw==","limit":"1","keys_only":true}'
}

# ask_alarms: sets ALARMS to "member id in hex:alarm" each. Needs a quorum.
ask_alarms() {
  local rest entry alarm
  ask_gateway /v3/maintenance/alarm '{"action":"GET"}' || return 1
  ALARMS=()
  rest=${ANSWER#*alarms}
  while [[ $rest =~ \{([^{}]*\"alarm\"[^{}]*)\}(.*)$ ]]; do
    entry=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]} alarm=''
    # 3.5 raises CORRUPT with member id 0, which the answer then leaves out.
    HEX=0
    [[ ! $entry =~ \"memberID\":\"([0-9]+)\" ]] || hex_of "${BASH_REMATCH[1]}"
    [[ ! $entry =~ \"alarm\":\"([A-Z]+)\" ]] || alarm=${BASH_REMATCH[1]}
    [[ -z $alarm ]] || ALARMS+=("$HEX:$alarm")
  done
}

# speak_with_etcd: endpoint and certificates by MANIFEST's words; sets NO_CERTIFICATE when there is none to speak with.
speak_with_etcd() {
  read_layout
  find_endpoint
  choose_certificates
}

# api_server_url: by the manifest sets API_URL, API_AT (the same with an address that can be connected to), and the files to ask it with;
# API_URL is '' without a manifest.
api_server_url() {
  local host port
  API_URL='' API_AT='' API_CONNECT=() API_CA='' API_CERT='' API_KEY='' API_SERVING=''
  manifest_of kube-apiserver
  [[ -n $COMPONENT_MANIFEST ]] || return 0
  manifest_arguments "$COMPONENT_MANIFEST"
  flag client-ca-file /etc/kubernetes/pki/ca.crt "${ARGUMENTS[@]}"
  API_CA=$FLAG
  flag kubelet-client-certificate /etc/kubernetes/pki/apiserver-kubelet-client.crt "${ARGUMENTS[@]}"
  API_CERT=$FLAG
  flag kubelet-client-key /etc/kubernetes/pki/apiserver-kubelet-client.key "${ARGUMENTS[@]}"
  API_KEY=$FLAG
  flag tls-cert-file '' "${ARGUMENTS[@]}"
  API_SERVING=$FLAG
  flag secure-port 6443 "${ARGUMENTS[@]}"
  port=$FLAG
  # Its certificate names the address that it advertises.
  flag advertise-address '' "${ARGUMENTS[@]}"
  host=$FLAG
  if [[ -z $host ]]; then
    flag bind-address '' "${ARGUMENTS[@]}"
    [[ $FLAG == 0.0.0.0 || $FLAG == :: ]] || host=$FLAG
  fi
  if [[ -n $host ]]; then
    [[ $host != *:* ]] || host="[$host]"
    API_URL=https://$host:$port
    API_AT=$API_URL
    return 0
  fi
  # Not the loopback, but kubeadm always puts this name into it.
  API_URL=https://kubernetes:$port
  API_AT=https://127.0.0.1:$port
  API_CONNECT=(--connect-to "kubernetes:$port:127.0.0.1:$port")
}

# serving_certificates: adds to CERTIFICATES those that etcd shows its peers, and the API server its clients and the kubelets, where they can be
# read on the host.
serving_certificates() {
  local file
  api_server_url
  etcd_setting peer-cert-file ''
  host_path "$FLAG"
  for file in "$HOST_PATH" "$API_SERVING" "$API_CERT"; do
    if [[ -r $file && " ${CERTIFICATES[*]} " != *" $file "* ]] && openssl x509 -in "$file" -noout 2>/dev/null; then
      CERTIFICATES+=("$file")
    fi
  done
}

# api_server_ready: whether this node's API server says that it is.
api_server_ready() {
  api_server_url
  [[ -n $API_URL ]] || return 1
  ANSWER=$(env -i PATH="$PATH" curl -q --silent --show-error --globoff --noproxy '*' --connect-timeout 3 --max-time 10 "${API_CONNECT[@]}" \
    --cacert "$API_CA" --cert "$API_CERT" --key "$API_KEY" "$API_URL/readyz" 2>&1) || return 1
  [[ $ANSWER == ok ]]
}

# ---------------------------------------------------------------- what failed

# newest_log COMPONENT: sets NEWEST_LOG to its newest container log, or to ''.
newest_log() {
  local file
  NEWEST_LOG=''
  for file in /var/log/pods/kube-system_"$1"-*/"$1"/*.log; do
    [[ -f $file && (-z $NEWEST_LOG || $file -nt $NEWEST_LOG) ]] || continue
    NEWEST_LOG=$file
  done
}

# keep_failed: the ends of the logs of etcd and the API server and the journal, for diagnose: what runs after the rollback writes other ones, and
# cleanup removes the journal. What was kept first counts; the next preflight removes it. A rollback does not fail for it.
keep_failed() {
  local failed=$RESTORE_DIR/$RESTORE_ID.failed component
  [[ ! -d $failed ]] || return 0
  rm -rf -- "$failed.next" && mkdir -- "$failed.next" || return
  for component in etcd kube-apiserver; do
    newest_log "$component"
    # Whole lines: half of one may hold a secret, and not the word beside it.
    [[ -z $NEWEST_LOG ]] || timeout 5 tail -n 25 -- "$NEWEST_LOG" >"$failed.next/$component" || :
  done
  tail -n 50 -- "$RESTORE_JOURNAL" >"$failed.next/journal" && mv -T -- "$failed.next" "$failed"
}
