#!/bin/bash
# Proves on this node that the restore can succeed, and prepares all of it beside the running etcd, so that what follows is stop, rename, start.
# Step key: makes the key that this run's download is sealed to. Step stage: downloads, checks and restores into a directory of its own.
# Parameters: RestoreId, Step, SnapshotUrl, SealedSignature, Compression, CompressedBytes, CompressedSha256, SizeBytes, Sha256, Revision,
# Bump, InitialCluster, Token, EtcdVersion, ToolPins, ToolUrls, DiskLimitPercent, AllowQuota.
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# A new member's first WAL file, preallocated (etcd, server/storage/wal: SegmentSizeBytes), and what the file system needs for itself.
readonly WAL_BYTES=67108864
# Under 100 KB/s for a minute is a dead connection, not a slow one.
readonly SLOW_BYTES_PER_SECOND=102400 SLOW_SECONDS=60 DOWNLOAD_SECONDS=2400 ATTEMPTS=3

# ---------------------------------------------------------------- step key

# clear_run: what an earlier run of this or another restore left, that changed nothing yet.
clear_run() {
  rm -rf -- "${KEY_DIR:?}" "${RESTORE_DIR:?}"/[0-9]*
  if [[ -n ${HOST_DATA_DIR-} ]]; then
    rm -rf -- "$HOST_DATA_DIR"/.restore-*
  fi
  if [[ -n ${HOST_WAL_DIR-} ]]; then
    rm -rf -- "$HOST_WAL_DIR"/.restore-*
  fi
}

# Another restore that never stopped anything is over: only one runs at a time, and this one does.
take_over() {
  [[ -n $JOURNAL_ID ]] || return 0
  if [[ -n ${JOURNAL[stop]-} && ${JOURNAL[undone]-} != yes ]]; then
    [[ $JOURNAL_ID != "$RESTORE_ID" ]] ||
      refuse "$EXIT_OTHER_RESTORE" other-restore "restore $RESTORE_ID has stopped this node already, expected its preflight to come first; roll it back: start an execution with {\"rollback\": \"$RESTORE_ID\"}"
    refuse "$EXIT_OTHER_RESTORE" other-restore "restore $JOURNAL_ID has stopped this node and was neither ended nor rolled back, expected none under way; start an execution with {\"rollback\": \"$JOURNAL_ID\"} first"
  fi
  [[ $JOURNAL_ID == "$RESTORE_ID" ]] || log "taking over from restore $JOURNAL_ID, which is undone or had changed nothing"
}

make_key() {
  local pem=$KEY_DIR/$RESTORE_ID/key.pem line public=''
  # Memory, never a disk: what is gone with the node's power cannot be read later.
  [[ $(stat -f -c %T -- /run) == tmpfs ]] ||
    refuse "$EXIT_SEAL" seal "/run is a $(stat -f -c %T -- /run), expected tmpfs, because a private key must not reach a disk; mount tmpfs there, as systemd does"
  install -d -m 0700 -o root -g root -- "$KEY_DIR" "$KEY_DIR/$RESTORE_ID"
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out "$pem.next" 2>/dev/null ||
    refuse "$EXIT_SEAL" seal "openssl made no RSA key of 3072 bits in $KEY_DIR, expected one; check openssl on this node"
  mv -T -- "$pem.next" "$pem"
  while IFS= read -r line; do
    [[ $line == -----* ]] || public+=$line
  done < <(openssl pkey -in "$pem" -pubout)
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"publicKey\":\"$public\"}"
}

# ---------------------------------------------------------------- step stage

# remember_layout: into the journal, for every script that follows.
remember_layout() {
  local answer=no file entry tries component running=''
  local -a cluster
  local -A names=()
  STATIC_PODS=$(readlink -f -- "$STATIC_PODS")
  read_layout
  stray_manifest
  [[ -z $STRAY ]] || refuse "$EXIT_LAYOUT" layout "$STRAY"
  etcd_setting force-new-cluster false
  [[ $FLAG == false ]] ||
    refuse "$EXIT_LAYOUT" layout "$MANIFEST starts etcd with --force-new-cluster, expected it without: every node would become a cluster of its own; remove the flag"
  ! own_mount "$HOST_DATA_DIR/member" ||
    refuse "$EXIT_LAYOUT" layout "$HOST_DATA_DIR/member, or its wal, is a mount of its own, expected a directory on the file system of $HOST_DATA_DIR, because it has to be renamed; restore by hand as docs/restore.md says"
  if [[ $(stat -c %d -- "$STATIC_PODS") != $(stat -c %d -- "${STATIC_PODS%/*}") ]]; then
    refuse "$EXIT_LAYOUT" layout "$STATIC_PODS is a mount of its own, expected it on the file system of ${STATIC_PODS%/*}, because manifests are moved out by renaming; restore by hand as docs/restore.md says"
  fi
  # A member may have several URLs, each an entry with its name.
  IFS=, read -r -a cluster <<<"$INITIAL_CLUSTER"
  for entry in "${cluster[@]}"; do
    names[_${entry%%=*}]=yes
  done
  journal nodes "${#names[@]}"
  journal static-pods "$STATIC_PODS"
  journal data-dir "$HOST_DATA_DIR"
  [[ -z $HOST_WAL_DIR ]] || journal wal-dir "$HOST_WAL_DIR"
  journal member "$MEMBER_NAME"
  ! kubelet_active || answer=yes
  journal was-kubelet "$answer"
  speak_with_etcd
  ((${#NO_CERTIFICATE[@]} == 0)) || refuse "${NO_CERTIFICATE[@]}"
  # One that crashes again and again answers, and has no process a moment later.
  for ((tries = 5; ; tries--)); do
    answer=no
    if ask_status; then
      answer=yes
      ! can_read || answer=quorum
    fi
    component_pids etcd
    [[ $answer != no && ${#PIDS[@]} -eq 0 ]] || break
    ((tries > 0)) ||
      refuse "$EXIT_LAYOUT" layout "etcd responds and no process of the host runs by $MANIFEST, expected one that stop can end; correct the manifest, or restart the static pod"
    sleep 1
  done
  journal was-etcd "$answer"
  answer=no
  ! api_server_ready || answer=yes
  journal was-api-server "$answer"
  for component in "${COMPONENTS[@]}"; do
    component_pids "$component"
    ((${#PIDS[@]} == 0)) || running+="${running:+ }$component"
  done
  journal was-running "${running:-none}"
  if [[ -n $API_URL ]]; then
    for file in "$API_CA" "$API_CERT" "$API_KEY"; do
      [[ -r $file ]] ||
        refuse "$EXIT_CERTIFICATE_MISSING" certificate-missing "$file is not readable, expected it, to ask the API server with after the restore; renew with 'kubeadm certs renew'"
    done
    # As above.
    for ((tries = 5; ; tries--)); do
      component_pids kube-apiserver
      if [[ $answer == no || ${#PIDS[@]} -gt 0 ]] || ! api_server_ready; then
        break
      fi
      ((tries > 0)) ||
        refuse "$EXIT_LAYOUT" layout "the API server responds and no process of the host runs by $COMPONENT_MANIFEST, expected one that stop can end; restart the static pod"
      sleep 1
    done
  fi
  serving_certificates
  for file in "${CERTIFICATES[@]}"; do
    days_left "$file"
    ((DAYS_LEFT >= 0)) ||
      refuse "$EXIT_CERTIFICATE_EXPIRED" certificate-expired "$file expired $((-DAYS_LEFT)) days ago, expected it in date, or what is restored does not come up; renew with 'kubeadm certs renew all'"
  done
  use_layout
}

# kept_before: sets KEPT_BEFORE to what earlier restores kept, oldest first.
kept_before() {
  local path
  KEPT_BEFORE=()
  for path in "$HOST_DATA_DIR"/member.before-*; do
    [[ ! $path =~ /member\.before-([0-9]{8}T[0-9]{6}Z)$ || ! -d $path ]] || KEPT_BEFORE+=("${BASH_REMATCH[1]}")
  done
}

# fills DIR BYTES: whether BYTES more would fill its disk beyond the limit. Sets AFTER (percent) and FREE (bytes).
fills() {
  local line size
  line=$(df -B1 --output=size,avail -- "$1" | tail -n 1)
  read -r size FREE <<<"$line"
  # As the kubelet counts: what is reserved for root is not free.
  AFTER=$(((size - FREE + $2) * 100 / size))
  ((AFTER > DISK_LIMIT_PERCENT || $2 > FREE))
}

# room_enough BYTES: whether removing all that earlier restores kept, but the last, makes room for BYTES.
room_enough() {
  local id bytes sum=0
  for id in "${KEPT_BEFORE[@]:0:${#KEPT_BEFORE[@]}-1}"; do
    bytes=$(du -sB1 -- "$HOST_DATA_DIR/member.before-$id")
    sum=$((sum + ${bytes%%[!0-9]*}))
  done
  ! fills "$HOST_DATA_DIR" $(($1 - sum))
}

# The compressed file, the snapshot and the restored database lie side by side for a while; then the member grows a WAL.
check_disk() {
  local data=$((SIZE_BYTES + WAL_BYTES)) download=$((COMPRESSED_BYTES + SIZE_BYTES)) oldest
  REMOVED_KEPT=()
  if [[ $(stat -c %d -- "$HOST_DATA_DIR") == "$(stat -c %d -- "$HOME_DIR")" ]]; then
    data=$((data + download)) download=0
  fi
  kept_before
  while fills "$HOST_DATA_DIR" "$data" && ((${#KEPT_BEFORE[@]} > 1)) && room_enough "$data"; do
    # Never the last one: it may be all that is left of what was there before an earlier restore.
    oldest=${KEPT_BEFORE[0]}
    log "removing $HOST_DATA_DIR/member.before-$oldest to make room"
    rm -rf -- "$HOST_DATA_DIR/member.before-$oldest"
    [[ -z $HOST_WAL_DIR ]] || rm -rf -- "$HOST_WAL_DIR/wal.before-$oldest"
    REMOVED_KEPT+=("$oldest")
    kept_before
  done
  ! fills "$HOST_DATA_DIR" "$data" ||
    refuse "$EXIT_DISK" disk "the restore needs $data bytes at $HOST_DATA_DIR and $FREE are free, which would fill the disk to $AFTER %, expected $DISK_LIMIT_PERCENT % at most; free space or enlarge the disk (past 85 % the kubelet deletes unused images, etcd's among them)"
  ! fills "$HOME_DIR" "$download" ||
    refuse "$EXIT_DISK" disk "the restore needs $download bytes at $HOME_DIR and $FREE are free, which would fill the disk to $AFTER %, expected $DISK_LIMIT_PERCENT % at most; free space or enlarge the disk"
  if [[ -n $HOST_WAL_DIR ]] && fills "$HOST_WAL_DIR" "$WAL_BYTES"; then
    refuse "$EXIT_DISK" disk "a new WAL needs $WAL_BYTES bytes at $HOST_WAL_DIR and $FREE are free, expected room for it; free space or enlarge the disk"
  fi
}

check_quota() {
  etcd_setting quota-backend-bytes 0
  local quota=2147483648
  # Below zero there is none.
  [[ $FLAG != -* ]] || return 0
  [[ ! $FLAG =~ ^[0-9]{1,18}$ ]] || ((10#$FLAG == 0)) || quota=$((10#$FLAG))
  ((SIZE_BYTES <= quota)) || [[ $ALLOW_QUOTA == yes ]] ||
    refuse "$EXIT_LAYOUT" layout "the snapshot has $SIZE_BYTES bytes and this member's quota is $quota, expected it to fit, or etcd only takes reads and deletes; raise --quota-backend-bytes in $MANIFEST, or force it with \"forceQuota\": true"
}

# find_restore_tool: sets RESTORE_TOOL: etcdutl of the image, else etcdctl of 3.5.10 and later, else etcdutl of the bucket. A copy, by hash.
find_restore_tool() {
  local minor patch
  TOOLS_JSON='' RESTORE_TOOL=''
  mkdir "$WORK/tools"
  find_arch
  look_for_etcd "$MANIFEST"
  local pid=$ETCD_PID
  [[ -z $ETCD_PID || $HOST_DATA_DIR -ef ${JOURNAL[data-dir]} ]] ||
    refuse "$EXIT_LAYOUT" layout "etcd (pid $ETCD_PID) has its data in $HOST_DATA_DIR and the volumes of $MANIFEST say ${JOURNAL[data-dir]}, expected one place; correct the manifest"
  minor=${ETCD_VERSION#*.}
  patch=${minor#*.}
  minor=${minor%%.*}
  patch=${patch%%[!0-9]*}
  if [[ -n $pid ]]; then
    # The image's version, not what the plan took it for.
    copy_pinned etcdutl
    RESTORE_TOOL=$TOOL
    if [[ -z $RESTORE_TOOL ]] && ((minor == 5 && patch >= 10)); then
      copy_pinned etcdctl
      RESTORE_TOOL=$TOOL
    fi
  fi
  read_manifest "$MANIFEST"
  HOST_DATA_DIR=${JOURNAL[data-dir]}
  if [[ -z $RESTORE_TOOL ]]; then
    fetch_pinned etcdutl
    RESTORE_TOOL=$TOOL
  fi
  if [[ -z $RESTORE_TOOL ]] && ((minor == 5 && patch >= 10)); then
    fetch_pinned etcdctl
    RESTORE_TOOL=$TOOL
  fi
  [[ -n $RESTORE_TOOL ]] ||
    refuse "$EXIT_NO_TOOL" no-tool "no etcdutl of etcd $ETCD_VERSION ($ARCH) in the image or in the bucket's tools/, expected one to restore with; run 'npm run tools -- add $ETCD_VERSION', or let a backup store it, and start the restore again"
}

# copy_pinned NAME / fetch_pinned NAME: as copy_tool and fetch_tool, but with pins a tool that none of them names is refused: it would be
# run as root on what the cluster is to be.
copy_pinned() {
  copy_tool "$1"
  require_pin "$1"
}

fetch_pinned() {
  fetch_tool "$1"
  require_pin "$1"
}

require_pin() {
  local sha256
  [[ -n $TOOL && -n $TOOL_PINS ]] || return 0
  sha256=$(openssl dgst -sha256 -r "$TOOL")
  sha256=${sha256%% *}
  [[ " $TOOL_PINS " == *" $ETCD_VERSION/$ARCH/$1=$sha256 "* ]] ||
    refuse "$EXIT_TOOL_CHANGED" tool-changed "$1 $ETCD_VERSION ($ARCH) has SHA-256 $sha256, expected one of the official releases or one that the configuration acknowledges; it was not run; see docs/restore.md, or force it with \"forceUnknownTool\": true"
}

# download_config: for curl on stdin; the one secret part of the URL is opened here and goes nowhere else.
download_config() {
  local pem=$KEY_DIR/$RESTORE_ID/key.pem signature
  signature=$(printf '%s' "$SEALED_SIGNATURE" | openssl base64 -d -A |
    openssl pkeyutl -decrypt -inkey "$pem" -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 2>/dev/null) || return 1
  [[ $signature =~ ^[0-9a-f]{64}$ ]] || return 1
  printf 'url = "%s%s"\n' "$SNAPSHOT_URL" "$signature"
}

download() {
  local attempt status=0 code deadline sha256 size config
  now_ms
  deadline=$((NOW_MS + DOWNLOAD_SECONDS * 1000))
  config=$(download_config) ||
    refuse "$EXIT_SEAL" seal "the sealed part of the URL does not open with this node's key to 64 hex digits, expected it to; it was sealed to another node's or another run's key: start a new restore"
  for ((attempt = 1; ; attempt++)); do
    status=0
    rm -f -- "$PACKED"
    now_ms
    code=$(printf '%s\n' "$config" | curl -q --config - --silent --show-error --globoff --connect-timeout 20 \
      --speed-limit "$SLOW_BYTES_PER_SECOND" --speed-time "$SLOW_SECONDS" --max-time "$(((deadline - NOW_MS) / 1000 + 1))" \
      --output "$PACKED" --write-out '%{http_code}' 2>"$WORK/curl.txt") || status=$?
    if [[ $status == 0 && $code == 200 ]]; then
      break
    fi
    now_ms
    if ((attempt == ATTEMPTS || NOW_MS >= deadline)) || [[ $code == 4?? ]]; then
      refuse "$EXIT_DOWNLOAD" download "the download of the snapshot ended with HTTP ${code:-000} and curl status $status ($(head -c 300 -- "$WORK/curl.txt")) after $attempt attempts, expected HTTP 200; check this node's route to S3, and start the restore again"
    fi
    sleep $((attempt * 2))
  done
  # Only now: when this script is killed before, it is run again.
  journal downloaded yes
  rm -rf -- "${KEY_DIR:?}"
  size=$(stat -c %s -- "$PACKED")
  sha256=$(openssl dgst -sha256 -r "$PACKED")
  [[ $size == "$COMPRESSED_BYTES" && ${sha256%% *} == "$COMPRESSED_SHA256" ]] ||
    refuse "$EXIT_SNAPSHOT_BYTES" snapshot-bytes "what was downloaded has $size bytes and SHA-256 ${sha256%% *}, expected $COMPRESSED_BYTES and $COMPRESSED_SHA256 as the receipt says; nothing was stopped; start the restore again, and if it repeats, choose another backup"
}

unpack() {
  local size sha256
  local -a unpacker=(gzip -dc)
  [[ $COMPRESSION == gzip ]] || unpacker=(zstd -q -dc)
  "${unpacker[@]}" "$PACKED" >"$WORK/snapshot.db" ||
    refuse "$EXIT_SNAPSHOT_BYTES" snapshot-bytes "$COMPRESSION does not decompress what was downloaded (stderr has its words), expected a snapshot; check the disk's free space"
  rm -f -- "$PACKED"
  size=$(stat -c %s -- "$WORK/snapshot.db")
  sha256=$(openssl dgst -sha256 -r "$WORK/snapshot.db")
  [[ $size == "$SIZE_BYTES" && ${sha256%% *} == "$SHA256" ]] ||
    refuse "$EXIT_SNAPSHOT_BYTES" snapshot-bytes "the decompressed snapshot has $size bytes and SHA-256 ${sha256%% *}, expected $SIZE_BYTES and $SHA256 as the receipt says; choose another backup"
}

# run_tool ARGUMENT...: the restore tool with an environment of its own, both of its outputs in restore.txt.
run_tool() {
  env -i PATH=/nonexistent HOME=/nonexistent ETCDCTL_API=3 "$RESTORE_TOOL" "$@"
}

# restore: the whole of it, into STAGE, by the words of this node's own manifest. etcd's own SHA-256 trailer is checked by the tool.
restore() {
  local peers owner
  local -a wal=()
  etcd_setting initial-advertise-peer-urls ''
  peers=$FLAG
  [[ -z $HOST_WAL_DIR ]] || wal=(--wal-dir "$WAL_STAGE")
  mkdir -m 0700 -- "$STAGE"
  run_tool snapshot restore "$WORK/snapshot.db" --name "$MEMBER_NAME" --data-dir "$STAGE/data" --initial-cluster "$INITIAL_CLUSTER" \
    --initial-cluster-token "$TOKEN" --initial-advertise-peer-urls "$peers" --bump-revision "$BUMP" --mark-compacted "${wal[@]}" \
    >"$WORK/restore.txt" 2>&1 ||
    refuse "$EXIT_RESTORE_FAILED" restore-failed "the restore of the snapshot into $STAGE failed: $(tail -n 1 -- "$WORK/restore.txt" | head -c 600); expected a member; nothing was stopped; choose another backup, or see docs/restore.md"
  rm -f -- "$WORK/snapshot.db"
  mv -T -- "$STAGE/data/member" "$STAGE/member"
  rmdir -- "$STAGE/data"
  # As etcd finds it today: kubeadm can run it as a user of its own.
  owner=$HOST_DATA_DIR
  [[ ! -d $HOST_DATA_DIR/member ]] || owner=$HOST_DATA_DIR/member
  chown -R --reference="$owner" -- "$STAGE"
  [[ -z $RUN_AS || -d $HOST_DATA_DIR/member ]] || chown -R "$RUN_AS:${RUN_AS_GROUP:-$RUN_AS}" -- "$STAGE"
  chmod --reference="$owner" -- "$STAGE/member"
  [[ -z $HOST_WAL_DIR ]] || chown -R --reference="$HOST_WAL_DIR" -- "$WAL_STAGE"
  if type -P chcon getenforce >/dev/null && [[ $(getenforce) != Disabled ]]; then
    chcon -R --reference="$owner" -- "$STAGE"
    [[ -z $HOST_WAL_DIR ]] || chcon -R --reference="$HOST_WAL_DIR" -- "$WAL_STAGE"
  fi
}

# prove: the staged database, read once more: its hash must be the same on every node.
prove() {
  # Status of 3.5's etcdctl and of etcdutl print the same JSON.
  ANSWER=$(run_tool snapshot status -w json "$STAGE/member/snap/db" 2>"$WORK/status.txt") ||
    refuse "$EXIT_RESTORE_FAILED" restore-failed "snapshot status of the restored database failed: $(tail -n 1 -- "$WORK/status.txt" | head -c 400); expected a sound one; nothing was stopped; check the disk"
  json_number hash
  STAGED_HASH=$FIELD
  json_number revision
  STAGED_REVISION=$FIELD
  json_number totalKey
  STAGED_KEYS=$FIELD
  [[ -n $STAGED_HASH && -n $STAGED_KEYS && $STAGED_REVISION == $((REVISION + BUMP)) ]] ||
    refuse "$EXIT_RESTORE_FAILED" restore-failed "the restored database says '${ANSWER:0:200}', expected revision $((REVISION + BUMP)), which is $REVISION of the snapshot raised by $BUMP; nothing was stopped; report the version of etcd ($ETCD_VERSION)"
}

stage() {
  local started phase wait download restore
  now_ms
  started=$NOW_MS
  require_key
  clear_run_but_key
  begin_journal
  journal phase preflight
  find_static_pods
  ASIDE_DIR=/nonexistent
  remember_layout
  # Only one restore runs, and take_over has let none pass that is not undone.
  rm -rf -- "${HOST_DATA_DIR:?}"/.restore-* "${WORK:?}"
  [[ -z $HOST_WAL_DIR ]] || rm -rf -- "${HOST_WAL_DIR:?}"/.restore-*
  mkdir -m 0700 -- "$WORK"
  PACKED=$WORK/snapshot.packed
  check_disk
  check_quota
  find_restore_tool
  seconds_since "$started"
  wait=$SECONDS_SINCE
  phase=$NOW_MS
  download
  unpack
  seconds_since "$phase"
  download=$SECONDS_SINCE
  phase=$NOW_MS
  restore
  prove
  sync -f -- "$STAGE"
  [[ -z $HOST_WAL_DIR ]] || sync -f -- "$WAL_STAGE"
  rm -rf -- "$WORK"
  journal staged "$((REVISION + BUMP))"
  seconds_since "$phase"
  restore=$SECONDS_SINCE
  seconds_since "$started"
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"staged\":{\"hash\":$STAGED_HASH,\"revision\":$STAGED_REVISION,\"totalKey\":$STAGED_KEYS},\"tools\":[$TOOLS_JSON],\"removedKept\":$(json_strings "${REMOVED_KEPT[@]}"),\"seconds\":{\"check\":$wait,\"download\":$download,\"restore\":$restore,\"total\":$SECONDS_SINCE}}"
}

# require_key: the key of step key, which is there until the download has succeeded. Before the journal is begun anew, which says that.
require_key() {
  [[ ! -f $KEY_DIR/$RESTORE_ID/key.pem ]] || return 0
  [[ $JOURNAL_ID != "$RESTORE_ID" || ${JOURNAL[downloaded]-} != yes ]] ||
    refuse "$EXIT_SEAL" seal "an earlier run of this script was killed after its download, when the key is gone, expected it to end by itself; look at this node's memory and disk ('dmesg', 'journalctl -t etcd-backup'), and start the restore again"
  refuse "$EXIT_SEAL" seal "$KEY_DIR/$RESTORE_ID/key.pem is not there, expected the key that step 'key' of this restore made; the node was restarted meanwhile: start a new restore"
}

# clear_run_but_key: what was staged before; the key was made minutes ago by step key.
clear_run_but_key() {
  rm -rf -- "${RESTORE_DIR:?}"/[0-9]*
}

main() {
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Step '^(key|stage)$'
  local step=$PARAMETER
  need cat chmod chown cp curl date df du env flock gzip head install mkdir mv od openssl readlink rm rmdir sleep stat sync systemctl tail timeout tr uname
  lock_node "$LOCK_SECONDS"
  read_journal
  take_over
  if [[ $step == key ]]; then
    [[ -z $JOURNAL_ID ]] || use_layout
    clear_run
    # An undone restore, whose cleanup never came, has left it; what somebody has put there is theirs.
    [[ -z $JOURNAL_ID || -z $STATIC_PODS ]] || rmdir -- "${STATIC_PODS%/*}/manifests.before-$JOURNAL_ID" 2>/dev/null || :
    rm -f -- "$RESTORE_JOURNAL"
    make_key
    return 0
  fi
  parameter SnapshotUrl '^https?://[A-Za-z0-9.:/?&=%~_+-]+X-Amz-Signature=$'
  SNAPSHOT_URL=$PARAMETER
  parameter SealedSignature '^[A-Za-z0-9+/=]{512}$'
  SEALED_SIGNATURE=$PARAMETER
  parameter Compression '^(zstd|gzip)$'
  COMPRESSION=$PARAMETER
  parameter CompressedBytes '^[0-9]{1,15}$'
  COMPRESSED_BYTES=$((10#$PARAMETER))
  parameter CompressedSha256 '^[0-9a-f]{64}$'
  COMPRESSED_SHA256=$PARAMETER
  parameter SizeBytes '^[0-9]{1,15}$'
  SIZE_BYTES=$((10#$PARAMETER))
  parameter Sha256 '^[0-9a-f]{64}$'
  SHA256=$PARAMETER
  parameter Revision '^[0-9]{1,16}$'
  REVISION=$((10#$PARAMETER))
  parameter Bump '^[0-9]{1,16}$'
  BUMP=$((10#$PARAMETER))
  parameter InitialCluster '^[]A-Za-z0-9.:/=,_%[-]+$'
  INITIAL_CLUSTER=$PARAMETER
  parameter Token '^[A-Za-z0-9-]+$'
  TOKEN=$PARAMETER
  parameter EtcdVersion '^[0-9]+\.[0-9]+\.[0-9]+[A-Za-z0-9.+-]*$'
  ETCD_VERSION=$PARAMETER
  parameter ToolPins '^[A-Za-z0-9.=/ _+-]*$'
  TOOL_PINS=$PARAMETER
  parameter ToolUrls '^[A-Za-z0-9.:/?&=%~_ +-]*$'
  TOOL_URLS=$PARAMETER
  parameter DiskLimitPercent '^[0-9]{1,2}$'
  DISK_LIMIT_PERCENT=$((10#$PARAMETER))
  parameter AllowQuota '^(yes|no)$'
  ALLOW_QUOTA=$PARAMETER
  [[ $COMPRESSION == gzip ]] || type -P zstd >/dev/null ||
    refuse "$EXIT_MISSING_COMMAND" missing-command "the backup is compressed with zstd, which was not found in $PATH, expected it; install its package on this node, or choose a backup with gzip"
  stage
}

main
