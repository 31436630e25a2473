#!/bin/bash
# Takes a snapshot of this node's etcd, proves it here, compresses it into staging, and says what it is.
# Parameters: BackupId, ClusterName, MembersBefore (0: not known), ToolPins ("version/arch/name=sha256 ..."),
# ToolUrls ("version/arch/name=sha256=url ..."), DiskLimitPercent, RestoreId ('': a backup; else the restore that is about to replace
# what is saved: then the member may be the last one that serves, without quorum).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"

# S3 stores at most 5 GB in one PUT, and only one PUT has a SHA-256 of the whole object.
readonly PUT_LIMIT_BYTES=5368709120 PUT_WARNING_BYTES=4294967296
# A linearizable read on a healthy member takes milliseconds; 5 s is what etcd itself allows a request.
readonly READ_TIMEOUT=5s
# The tools copied out of the image, the answers of etcd, and what the file system needs for itself.
readonly STAGING_EXTRA_BYTES=134217728
# How long a finished snapshot of another backup is left for its upload, which follows within seconds, or minutes after a retry.
readonly UPLOAD_PATIENCE_SECONDS=300
# SSM keeps the first 24,000 characters of stdout; half a line is no result.
readonly RESULT_LIMIT=23000

ANSWERING_NAME=''

# ask COMMAND...: sets ANSWER to etcdctl's answer; a refusal of etcd is one of ours.
ask() {
  if ANSWER=$(etcdctl --command-timeout="$READ_TIMEOUT" "$@" 2>"$WORK/etcdctl.txt"); then
    return 0
  fi
  local why
  why=$(tail -n 1 -- "$WORK/etcdctl.txt" | head -c 400)
  # What lies behind a deadline (a refused handshake, no route) stands in the log lines before.
  [[ ! $(head -c 4000 -- "$WORK/etcdctl.txt") =~ \"error\":\"([^\"]{1,300}) ]] || why+=" (${BASH_REMATCH[1]})"
  case $why in
    *'etcdserver: permission denied'* | *'user name is empty'* | *'user name not found'* | *'authentication'* | *'invalid auth token'*)
      refuse "$EXIT_AUTH" auth "etcd refuses 'etcdctl $1' with the client certificate $CERT: $why; expected a user with the root role; auth is enabled, so add a user named as the certificate's CN and grant it root"
      ;;
    *learner*)
      refuse "$EXIT_LEARNER" learner "this member is a learner: $why; expected a voting member; the next node is tried"
      ;;
  esac
  refuse "$EXIT_NO_QUORUM" no-quorum "'etcdctl $1' got no answer that a quorum stands behind within $READ_TIMEOUT: $why; expected a linearizable read to work; a member that is cut off would save stale data"
}

# field NAME TEXT: sets FIELD to the value of one `"NAME" : value` line of etcdctl's fields output.
field() {
  FIELD=''
  [[ $'\n'$2 =~ $'\n'\"$1\"\ :\ \"?([^\"$'\n']*) ]] && FIELD=${BASH_REMATCH[1]}
  [[ -n $FIELD ]] ||
    refuse "$EXIT_UNEXPECTED" unexpected "etcdctl's answer has no field '$1' in '${2:0:200}', expected the fields output of etcd $ETCD_VERSION; report this version"
}

# number NAME TEXT: the same for a number; anything else must not reach an arithmetic expression, which bash would evaluate.
number() {
  field "$1" "$2"
  [[ $FIELD =~ ^[0-9]{1,20}$ ]] ||
    refuse "$EXIT_UNEXPECTED" unexpected "etcdctl's field '$1' is '${FIELD:0:100}', expected a number; report this version of etcd ($ETCD_VERSION)"
}

# ---------------------------------------------------------------- is it fit to be saved

check_member() {
  local leader
  # A survivor's data is what there is: a restore says how old it is.
  [[ -n $RESTORE_ID ]] || ask get --consistency=l --limit=1 --keys-only /registry/
  ask endpoint status -w fields
  number MemberID "$ANSWER"
  printf -v MEMBER_ID '%x' "$FIELD"
  number ClusterID "$ANSWER"
  printf -v CLUSTER_ID '%x' "$FIELD"
  number Leader "$ANSWER"
  leader=$FIELD
  printf -v LEADER_ID '%x' "$leader"
  field IsLearner "$ANSWER"
  [[ $FIELD == false ]] ||
    refuse "$EXIT_LEARNER" learner "member $MEMBER_ID ($MEMBER_NAME) is a learner, expected a voting member; the next node is tried"
  if [[ $leader == 0 ]]; then
    [[ -n $RESTORE_ID ]] ||
      refuse "$EXIT_NO_QUORUM" no-quorum "member $MEMBER_ID ($MEMBER_NAME) knows no leader, expected one; a member that is cut off would save stale data"
    FINDINGS+=(no-leader)
  fi
  number Revision "$ANSWER"
  LIVE_REVISION=$FIELD
  number RaftTerm "$ANSWER"
  RAFT_TERM=$FIELD
  number RaftIndex "$ANSWER"
  RAFT_INDEX=$FIELD
  number DBSize "$ANSWER"
  DB_SIZE=$FIELD
  # The fields output of 3.5 leaves this one out; JSON has it unless it is 0.
  ask endpoint status -w json
  [[ $ANSWER =~ \"dbSizeInUse\":([0-9]+) ]] && DB_SIZE_IN_USE=${BASH_REMATCH[1]} || DB_SIZE_IN_USE=0
}

# check_survivor: what check_members asks, without a quorum, and whatever its size: what a restore replaces may be a cluster that lost members.
check_survivor() {
  local index
  ask_members false ||
    refuse "$EXIT_NO_ENDPOINT" no-endpoint "etcd's gateway at $HTTP_ENDPOINT does not give the member list: ${ANSWER:0:300}; expected it, as it needs no quorum; look for --enable-grpc-gateway=false in $STATIC_PODS/etcd.yaml"
  for index in "${!MEMBER_IDS[@]}"; do
    [[ ${MEMBER_IDS[index]} != "$MEMBER_ID" ]] || ANSWERING_NAME=${MEMBER_NAMES[index]}
  done
  check_name
  ALARMS=()
}

# check_name: whether the member that answers is this node's.
check_name() {
  [[ ${ANSWERING_NAME-} == "$MEMBER_NAME" ]] ||
    refuse "$EXIT_WRONG_MEMBER" wrong-member "$ENDPOINT is answered by member $MEMBER_ID named '${ANSWERING_NAME-not in the member list}', expected '$MEMBER_NAME' as $STATIC_PODS/etcd.yaml says; check for a second etcd or a proxy on that address"
}

# check_members: the member list, this node's place in it, and its size against last time's.
check_members() {
  local line id='' name='' peer client learner names='' count=0
  local -a peers=() clients=()
  ask member list -w fields
  MEMBERS_JSON='' CLIENT_URLS=''
  # The fields of one member follow each other and end with IsLearner.
  while IFS= read -r line; do
    [[ $line =~ ^\"([A-Za-z]+)\"\ :\ (.*)$ ]] || continue
    peer=${BASH_REMATCH[2]}
    peer=${peer#\"}
    peer=${peer%\"}
    case ${BASH_REMATCH[1]} in
      ID) printf -v id '%x' "$peer" ;;
      Name) name=$peer ;;
      PeerURL) peers+=("$peer") ;;
      ClientURL)
        client=$peer
        clients+=("$client")
        CLIENT_URLS+="${CLIENT_URLS:+,}$client"
        ;;
      IsLearner)
        learner=$peer
        count=$((count + 1))
        names+=" $name"
        [[ $id != "$MEMBER_ID" ]] || ANSWERING_NAME=$name
        MEMBERS_JSON+="${MEMBERS_JSON:+,}{\"id\":\"$id\",\"name\":$(json_string "$name"),\"peerUrls\":$(json_strings "${peers[@]}"),\"clientUrls\":$(json_strings "${clients[@]}"),\"isLearner\":$learner}"
        peers=() clients=()
        ;;
    esac
  done <<<"$ANSWER"
  check_name
  MEMBER_COUNT=$count
  ((count >= MEMBERS_BEFORE)) ||
    refuse "$EXIT_FEWER_MEMBERS" fewer-members "the member list has $count members ($names ), expected $MEMBERS_BEFORE as at the last backup; a wiped first node that bootstrapped an empty cluster looks like this; if the cluster was scaled down on purpose, acknowledge it in the configuration"
}

# check_alarms: on a CORRUPT alarm only a member that agrees with the majority may be saved. NOSPACE never stops a backup.
check_alarms() {
  local line revision attempt id hash agree=0 mine=''
  local -A hash_of=()
  ALARMS=()
  ask alarm list
  while IFS= read -r line; do
    [[ ! $line =~ alarm:([A-Z]+) ]] || ALARMS+=("${BASH_REMATCH[1]}")
  done <<<"$ANSWER"
  [[ " ${ALARMS[*]} " == *' CORRUPT '* ]] || return 0
  FINDINGS+=(corrupt-alarm)
  revision=$LIVE_REVISION
  for attempt in 1 2 3; do
    # A member that is down has no vote: etcdctl then ends with an error and still prints what the others say.
    ANSWER=$(ASK_AT=$CLIENT_URLS etcdctl --command-timeout=30s endpoint hashkv --rev="$revision" -w fields 2>"$WORK/etcdctl.txt") || :
    # One vote per member, by the id that answered: a member may have several URLs, and a loopback URL is always this node's.
    hash_of=() id=''
    while IFS= read -r line; do
      [[ ! $line =~ ^\"MemberID\"\ :\ ([0-9]+)$ ]] || printf -v id '%x' "${BASH_REMATCH[1]}"
      [[ ! $line =~ ^\"Hash\"\ :\ ([0-9]+)$ || -z $id ]] || hash_of[$id]=${BASH_REMATCH[1]}
    done <<<"$ANSWER"
    mine=${hash_of[$MEMBER_ID]-} agree=0
    for hash in "${hash_of[@]}"; do
      [[ $hash != "$mine" ]] || agree=$((agree + 1))
    done
    [[ -n $mine ]] && ((agree * 2 > MEMBER_COUNT)) && return 0
    # A follower may lag some milliseconds behind the revision that we ask for.
    sleep "$attempt"
  done
  refuse "$EXIT_CORRUPT" corrupt "CORRUPT alarm, and at revision $revision this member's hash (${mine:-no answer}) is shared by $agree of $MEMBER_COUNT members, expected a majority; the next node is tried; replace the member that differs"
}

# Before anything is written: the database's file tells how large the snapshot will be.
check_disk() {
  local file=/proc/$ETCD_PID/root/$DATA_DIR/member/snap/db need line size available after
  DB_SIZE=$(stat -c %s -- "$file" 2>/dev/null) ||
    refuse "$EXIT_NO_ETCD" no-etcd "no database at $DATA_DIR/member/snap/db of etcd (pid $ETCD_PID), expected one; look at the member's log"
  # The snapshot and its compressed form lie side by side for a while; compression may gain nothing.
  need=$((DB_SIZE * 2 + STAGING_EXTRA_BYTES))
  line=$(df -B1 --output=size,avail -- "$HOME_DIR" | tail -n 1)
  read -r size available <<<"$line"
  # As the kubelet counts: what is reserved for root is not free.
  after=$(((size - available + need) * 100 / size))
  ((after <= DISK_LIMIT_PERCENT && need <= available)) ||
    refuse "$EXIT_DISK" disk "the snapshot needs $need bytes in $HOME_DIR and $available of $size are free, which would fill the disk to $after %, expected $DISK_LIMIT_PERCENT % at most; free space or enlarge the disk (past 85 % the kubelet deletes unused images)"
}

# ---------------------------------------------------------------- around the save

# whole TEXT: sets WHOLE to a metric's value as an integer, or to '' when it is none. From a million on they are written 1.000001e+06.
whole() {
  local first fraction exponent
  WHOLE=''
  if [[ $1 =~ ^[0-9]{1,18}$ ]]; then
    WHOLE=$((10#$1))
  elif [[ $1 =~ ^([0-9])(\.([0-9]{1,17}))?e\+([0-9]{2})$ ]]; then
    first=${BASH_REMATCH[1]} fraction=${BASH_REMATCH[3]} exponent=$((10#${BASH_REMATCH[4]}))
    ((exponent <= 17)) || return 0
    while ((${#fraction} < exponent)); do fraction+=0; done
    WHOLE=$((10#$first${fraction:0:exponent}))
  fi
}

# read_metrics: leader changes, and the WAL fsync histogram as `le=count` words, from etcd's own metrics; '' where they are not served.
read_metrics() {
  local line le
  LEADER_CHANGES='' WAL_FSYNC=''
  ask_http /metrics || return 0
  while IFS= read -r line; do
    if [[ $line =~ ^etcd_server_leader_changes_seen_total\ ([^\ ]+)$ ]]; then
      whole "${BASH_REMATCH[1]}"
      LEADER_CHANGES=$WHOLE
    elif [[ $line =~ ^etcd_disk_wal_fsync_duration_seconds_bucket\{le=\"([0-9]+(\.[0-9]+)?(e-[0-9]+)?|\+Inf)\"\}\ ([^\ ]+)$ ]]; then
      le=${BASH_REMATCH[1]}
      whole "${BASH_REMATCH[4]}"
      [[ -z $WHOLE ]] || WAL_FSYNC+=" $le=$WHOLE"
    fi
  done <<<"$ANSWER"
}

# fsync_p99 BEFORE AFTER: sets P99 to the upper bound in seconds that 99 % of the WAL fsyncs between two readings kept, or null.
fsync_p99() {
  local word le total=0 count
  local -A before=()
  P99=null
  for word in $1; do before[${word%%=*}]=${word#*=}; done
  for word in $2; do
    [[ ${word%%=*} != +Inf ]] || total=$((${word#*=} - ${before[+Inf]:-0}))
  done
  ((total > 0)) || return 0
  for word in $2; do
    le=${word%%=*}
    count=$((${word#*=} - ${before[$le]:-0}))
    if ((count * 100 >= total * 99)) && [[ $le != +Inf ]]; then
      P99=$le
      return 0
    fi
  done
}

# After the save nothing is urgent any more: what follows steps back behind etcd, by systemd's weights where systemd runs.
hold_back() {
  HELD_BACK=(nice -n 19)
  ! type -P ionice >/dev/null || HELD_BACK+=(ionice -c 3)
  if [[ -d /run/systemd/system ]] && systemd-run --scope --quiet --collect -p CPUWeight=20 -p IOWeight=20 true 2>/dev/null; then
    HELD_BACK=(systemd-run --scope --quiet --collect -p CPUWeight=20 -p IOWeight=20 "${HELD_BACK[@]}")
  fi
}

save() {
  # Full speed: a slow reader pins the database's pages and lets it grow.
  local why
  if ! etcdctl snapshot save "$WORK/snapshot.db" >"$WORK/save.txt" 2>&1; then
    why=$(tail -n 1 -- "$WORK/save.txt" | head -c 400)
    [[ $why != *'etcdserver: permission denied'* ]] ||
      refuse "$EXIT_AUTH" auth "etcd refuses a snapshot with the client certificate $CERT: $why; expected a user with the root role; auth is enabled, so add a user named as the certificate's CN and grant it root"
    refuse "$EXIT_SAVE_FAILED" save-failed "etcdctl snapshot save failed: $why; expected a snapshot; check the disk's free space and the member's log; etcd itself is not touched by this"
  fi
  SIZE=$(stat -c %s -- "$WORK/snapshot.db")
}

# snapshot status recomputes the hash over the data and walks the pages, but does not look at the trailer. It runs beside pack:
# both read the same file, which is in memory then.
start_status() {
  STATUS_PID=''
  [[ -n $STATUS_TOOL ]] || return 0
  "${HELD_BACK[@]}" env -i PATH=/nonexistent HOME=/nonexistent ETCDCTL_API=3 "$STATUS_TOOL" snapshot status -w json "$WORK/snapshot.db" \
    >"$WORK/status.json" 2>"$WORK/status.txt" &
  STATUS_PID=$!
}

end_status() {
  HASH=null REVISION=null TOTAL_KEY=null TOTAL_SIZE=null
  [[ -n $STATUS_PID ]] || return 0
  wait "$STATUS_PID" ||
    refuse "$EXIT_STATUS" status "snapshot status failed: $(tail -n 1 -- "$WORK/status.txt" | head -c 400); expected a sound snapshot; nothing was uploaded"
  ANSWER=$(<"$WORK/status.json")
  [[ $ANSWER =~ \"hash\":([0-9]+) ]] && HASH=${BASH_REMATCH[1]}
  [[ $ANSWER =~ \"revision\":([0-9]+) ]] && REVISION=${BASH_REMATCH[1]}
  [[ $ANSWER =~ \"totalKey\":([0-9]+) ]] && TOTAL_KEY=${BASH_REMATCH[1]}
  [[ $ANSWER =~ \"totalSize\":([0-9]+) ]] && TOTAL_SIZE=${BASH_REMATCH[1]}
  [[ $HASH != null && $REVISION != null && $TOTAL_KEY != null && $TOTAL_SIZE != null ]] ||
    refuse "$EXIT_STATUS" status "snapshot status answered '${ANSWER:0:200}', expected hash, revision, totalKey and totalSize; nothing was uploaded"
  # status knows the newest revision that still has a row: a deletion that was compacted away, or an empty etcd, leaves it behind.
  ((REVISION >= LIVE_REVISION)) || FINDINGS+=(revision-behind)
}

# pack: one pass over the file gives the trailer's hash, the file's hash, the compressed file and its hash.
pack() {
  local body=$((SIZE - 32)) trailer found pid_body pid_whole
  # etcd appends the SHA-256 of all that precedes it; the data before is whole 512-byte blocks.
  ((SIZE > 512 && SIZE % 512 == 32)) ||
    refuse "$EXIT_TRAILER" trailer "the snapshot has $SIZE bytes, expected a multiple of 512 and 32 bytes of SHA-256 after it; nothing was uploaded"
  if type -P zstd >/dev/null; then
    COMPRESSION=zstd PACKED=$WORK/snapshot.db.zst
    local -a packer=(zstd -q -c -T2 -3)
  else
    COMPRESSION=gzip PACKED=$WORK/snapshot.db.gz
    local -a packer=(gzip -c -6)
  fi
  mkfifo "$WORK/body" "$WORK/whole"
  { head -c "$body" && cat >/dev/null; } <"$WORK/body" | openssl dgst -sha256 -r >"$WORK/body.sha256" &
  pid_body=$!
  openssl dgst -sha256 -r <"$WORK/whole" >"$WORK/whole.sha256" &
  pid_whole=$!
  if ! "${HELD_BACK[@]}" tee "$WORK/body" "$WORK/whole" <"$WORK/snapshot.db" | "${HELD_BACK[@]}" "${packer[@]}" |
    tee "$PACKED" | openssl dgst -sha256 -r >"$WORK/packed.sha256" || ! wait "$pid_body" || ! wait "$pid_whole"; then
    refuse "$EXIT_COMPRESS_FAILED" compress-failed "hashing or $COMPRESSION into $WORK failed (stderr has its words), expected a compressed snapshot; check the disk's free space; etcd is not touched by this"
  fi
  trailer=$(tail -c 32 -- "$WORK/snapshot.db" | od -An -v -tx1 | tr -d ' \n')
  found=$(<"$WORK/body.sha256")
  found=${found%% *}
  [[ $found == "$trailer" ]] ||
    refuse "$EXIT_TRAILER" trailer "the snapshot's SHA-256 is $found, expected $trailer as its trailer says; nothing was uploaded; check the disk"
  SHA256=$(<"$WORK/whole.sha256")
  SHA256=${SHA256%% *}
  PACKED_SHA256=$(<"$WORK/packed.sha256")
  PACKED_SHA256=${PACKED_SHA256%% *}
  PACKED_SIZE=$(stat -c %s -- "$PACKED")
  ((PACKED_SIZE <= PUT_LIMIT_BYTES)) ||
    refuse "$EXIT_TOO_LARGE" too-large "the compressed snapshot has $PACKED_SIZE bytes, expected $PUT_LIMIT_BYTES at most, the largest single PUT of S3; compact and defragment etcd, and look for what fills it"
  ((PACKED_SIZE <= PUT_WARNING_BYTES)) || FINDINGS+=(compressed-over-4gb)
}

# describe_image: sets IMAGE_TOOLS_JSON: what of etcd's tools the member's image has. The bucket is given what it lacks of them.
describe_image() {
  local name bytes
  IMAGE_TOOLS_JSON=''
  for name in etcd etcdctl etcdutl; do
    image_tool "$name"
    [[ -n $IMAGE_TOOL ]] || continue
    bytes=$(stat -c %s -- "$IMAGE_TOOL")
    hash_of "$IMAGE_TOOL"
    IMAGE_TOOLS_JSON+="${IMAGE_TOOLS_JSON:+,}{\"name\":\"$name\",\"sha256\":\"$HASH_OF\",\"bytes\":$bytes}"
  done
}

# ---------------------------------------------------------------- the whole

# make_room: removes what earlier runs left, but for another backup's finished snapshot that still waits for its upload.
make_room() {
  local ready age
  for ready in "$STAGING_DIR"/*/ready; do
    [[ -e $ready && $ready != "$STAGING_DIR/$BACKUP_ID/ready" ]] || continue
    age=$(($(date +%s) - $(stat -c %Y -- "$ready")))
    ((age < 0 || age >= UPLOAD_PATIENCE_SECONDS)) ||
      refuse "$EXIT_ALREADY_RUNNING" already-running "the snapshot in ${ready%/ready} was finished $age s ago and waits for its upload, expected none younger than $UPLOAD_PATIENCE_SECONDS s; wait, or let another node take this backup"
  done
  rm -rf -- "${STAGING_DIR:?}"
}

main() {
  local started phase inspect save prove before changes
  now_ms
  started=$NOW_MS
  parameter BackupId '^[0-9]{8}T[0-9]{6}Z$'
  BACKUP_ID=$PARAMETER
  parameter ClusterName '^[a-z][a-z0-9-]*$'
  parameter MembersBefore '^[0-9]{1,2}$'
  MEMBERS_BEFORE=$((10#$PARAMETER))
  parameter ToolPins '^[A-Za-z0-9.=/ _+-]*$'
  TOOL_PINS=$PARAMETER
  parameter ToolUrls '^[A-Za-z0-9.:/?&=%~_ +-]*$'
  TOOL_URLS=$PARAMETER
  parameter DiskLimitPercent '^[0-9]{1,2}$'
  DISK_LIMIT_PERCENT=$((10#$PARAMETER))
  parameter RestoreId '^([0-9]{8}T[0-9]{6}Z)?$'
  RESTORE_ID=$PARAMETER ALLOWED_RESTORE=$PARAMETER
  begin cat cp curl date df env flock gzip head install mkfifo nice od openssl readlink sleep stat tail tee tr uname
  make_room
  STAGED=$STAGING_DIR/$BACKUP_ID WORK=$STAGED
  mkdir -p -- "$WORK"
  FINDINGS=()

  find_etcd
  find_endpoint
  find_certificates
  find_version
  check_disk
  find_tools
  check_member
  if [[ -n $RESTORE_ID ]]; then
    check_survivor
  else
    check_members
    check_alarms
  fi
  describe_image
  describe_cluster "$STATIC_PODS"
  seconds_since "$started"
  inspect=$SECONDS_SINCE
  log "member $MEMBER_NAME ($MEMBER_ID) of etcd $ETCD_VERSION is fit: revision $LIVE_REVISION, database $DB_SIZE bytes"

  phase=$NOW_MS
  read_metrics
  before=$WAL_FSYNC changes=$LEADER_CHANGES
  save
  seconds_since "$phase"
  save=$SECONDS_SINCE

  phase=$NOW_MS
  hold_back
  start_status
  pack
  end_status
  read_metrics
  fsync_p99 "$before" "$WAL_FSYNC"
  if [[ -n $changes && -n $LEADER_CHANGES ]]; then
    changes=$((LEADER_CHANGES - changes))
  else
    changes=0
  fi
  ((changes <= 0)) || FINDINGS+=(leader-changed)
  rm -rf -- "$WORK/tools" "$WORK/snapshot.db" "$WORK"/{body,whole}{,.sha256} "$WORK/packed.sha256" "$WORK/status.json" "$WORK"/*.txt
  seconds_since "$phase"
  prove=$SECONDS_SINCE
  seconds_since "$started"

  printf '{"ok":true,"backupId":"%s","file":"%s","compression":"%s","size":%s,"sha256":"%s","compressedSize":%s,"compressedSha256":"%s"' \
    "$BACKUP_ID" "$PACKED" "$COMPRESSION" "$SIZE" "$SHA256" "$PACKED_SIZE" "$PACKED_SHA256" >"$WORK/result"
  {
    printf ',"hash":%s,"revision":%s,"totalKey":%s,"totalSize":%s' "$HASH" "$REVISION" "$TOTAL_KEY" "$TOTAL_SIZE"
    printf ',"etcdVersion":%s,"clusterVersion":%s,"kubernetesVersion":%s,"arch":%s' \
      "$(json_string "$ETCD_VERSION")" "$(json_string "$CLUSTER_VERSION")" "$KUBERNETES_VERSION" "$(json_string "$ARCH")"
    printf ',"memberId":"%s","memberName":%s,"clusterId":"%s","leaderId":"%s","isLeader":%s' \
      "$MEMBER_ID" "$(json_string "$MEMBER_NAME")" "$CLUSTER_ID" "$LEADER_ID" "$([[ $LEADER_ID == "$MEMBER_ID" ]] && echo true || echo false)"
    printf ',"members":[%s],"raftTerm":%s,"raftIndex":"%s","dbSize":%s,"dbSizeInUse":%s,"liveRevision":%s' \
      "$MEMBERS_JSON" "$RAFT_TERM" "$RAFT_INDEX" "$DB_SIZE" "$DB_SIZE_IN_USE" "$LIVE_REVISION"
    printf ',"flags":%s,"dataDir":%s,"hostDataDir":%s' "$(json_strings "${ETCD_ARGUMENTS[@]}" "${ETCD_ENVIRONMENT[@]}")" "$(json_string "$DATA_DIR")" "$(json_string "$HOST_DATA_DIR")"
    printf ',"identity":{"etcdCaSha256":%s,"clusterCaSha256":%s,"saPubSha256":%s,"encryptionConfigSha256":%s}' "$ETCD_CA" "$CLUSTER_CA" "$SA_PUB" "$ENCRYPTION"
    printf ',"certificates":[%s],"alarms":%s,"leaderChanges":%s,"walFsyncP99Seconds":%s' \
      "$CERTIFICATES_JSON" "$(json_strings "${ALARMS[@]}")" "$changes" "$P99"
    printf ',"tools":[%s],"imageTools":[%s],"findings":%s' "$TOOLS_JSON" "$IMAGE_TOOLS_JSON" "$(json_strings "${FINDINGS[@]}")"
    printf ',"seconds":{"inspect":%s,"save":%s,"prove":%s,"total":%s},"peakBytesStaged":%s}\n' \
      "$inspect" "$save" "$prove" "$SECONDS_SINCE" $((SIZE + PACKED_SIZE))
  } >>"$WORK/result"
  local line
  line=$(<"$WORK/result")
  rm -f -- "$WORK/result"
  ((${#line} <= RESULT_LIMIT)) ||
    refuse "$EXIT_UNEXPECTED" unexpected "the result has ${#line} characters, expected $RESULT_LIMIT at most, which is what SSM keeps; see etcd's flags and member list in it for what is so long: ${line:0:500}"
  result "$line"
  # Only now: who reads this file knows that the function has heard of the snapshot beside it.
  : >"$WORK/ready"
  STAGED=''
}

main
