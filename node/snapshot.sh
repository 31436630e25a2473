#!/bin/bash
# Takes a snapshot of this node's etcd, proves it here, compresses it into staging, and says what it is.
# Parameters: BackupId, ClusterName, MembersBefore (0: not known), ToolPins ("version/arch/name=sha256 ..."),
# ToolUrls ("version/arch/name=sha256=url ..."), DiskLimitPercent.
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"

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

ETCDCTL='' ASK_AT='' ANSWERING_NAME='' TLS=()

# ---------------------------------------------------------------- the right etcd

# of_host PID: whether a process is one of the host's own: in its user namespace, and of root or of the uid given. Any user of the node
# and any pod can call a process etcd or kubelet, and show it whatever root it likes.
of_host() {
  local owner
  owner=$(stat -c %u -- "/proc/$1" 2>/dev/null) || return 1
  [[ $owner == 0 || $owner == "${2-0}" ]] && [[ /proc/$1/ns/user -ef /proc/self/ns/user ]]
}

# read_arguments FILE: sets ARGUMENTS to the NUL-separated strings of a /proc file.
read_arguments() {
  ARGUMENTS=()
  # The process may end while we look: then there is nothing to read.
  mapfile -d '' -t ARGUMENTS 2>/dev/null <"$1" || :
}

# flag NAME DEFAULT [ARGUMENT...]: sets FLAG to the last value of --NAME in the arguments (--k=v, --k v, -k), or DEFAULT.
flag() {
  local name=$1 argument previous=''
  FLAG=$2
  shift 2
  for argument in "$@"; do
    case $argument in
      "--$name="* | "-$name="*) FLAG=${argument#*=} ;;
      "--$name" | "-$name") FLAG=true ;;
      *) [[ $previous != "--$name" && $previous != "-$name" ]] || FLAG=$argument ;;
    esac
    previous=$argument
  done
}

# yaml_value FILE KEY: sets YAML_VALUE to a top-level scalar of a YAML file, or ''.
yaml_value() {
  local line
  YAML_VALUE=''
  [[ -r $1 ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line =~ ^$2:[[:space:]]*[\"\']?([^\"\'#]*[^\"\'#[:space:]])[\"\']?[[:space:]]*(#.*)?$ ]]; then
      YAML_VALUE=${BASH_REMATCH[1]}
    fi
  done <"$1"
}

# The folder of static pods: kubelet's flag, else its configuration's drop-ins, else its configuration, else kubeadm's.
find_static_pods() {
  local comm name dir='' file
  local config=/var/lib/kubelet/config.yaml flag_path=''
  STATIC_PODS=/etc/kubernetes/manifests
  for comm in /proc/[0-9]*/comm; do
    name=''
    read -r name 2>/dev/null <"$comm" || :
    if [[ $name != kubelet || ! ${comm%comm}ns/pid -ef /proc/self/ns/pid ]] || ! of_host "${comm//[!0-9]/}"; then
      continue
    fi
    read_arguments "${comm%/comm}/cmdline"
    flag config "$config" "${ARGUMENTS[@]}"
    config=$FLAG
    flag config-dir '' "${ARGUMENTS[@]}"
    dir=$FLAG
    flag pod-manifest-path '' "${ARGUMENTS[@]}"
    flag_path=$FLAG
    break
  done
  yaml_value "$config" staticPodPath
  [[ -z $YAML_VALUE ]] || STATIC_PODS=$YAML_VALUE
  if [[ -n $dir ]]; then
    for file in "$dir"/*.conf; do
      yaml_value "$file" staticPodPath
      [[ -z $YAML_VALUE ]] || STATIC_PODS=$YAML_VALUE
    done
  fi
  [[ -z $flag_path ]] || STATIC_PODS=$flag_path
}

# manifest_arguments FILE: sets ARGUMENTS to the list items of a static pod's manifest, quotes taken off.
manifest_arguments() {
  local line item
  ARGUMENTS=()
  while IFS= read -r line || [[ -n $line ]]; do
    [[ $line =~ ^[[:space:]]*-[[:space:]]+(.*[^[:space:]])[[:space:]]*$ ]] || continue
    item=${BASH_REMATCH[1]}
    if [[ $item =~ ^\"([^\"]*)\"([[:space:]]+#.*)?$ || $item =~ ^\'([^\']*)\'([[:space:]]+#.*)?$ ]]; then
      item=${BASH_REMATCH[1]}
    else
      item=${item%%[[:space:]]#*}
    fi
    ARGUMENTS+=("$item")
  done <"$1"
}

# etcd_setting NAME DEFAULT: sets FLAG from the process's arguments, else from its environment, as etcd itself decides.
etcd_setting() {
  local variable=ETCD_${1^^} value=$2 entry
  variable=${variable//-/_}
  for entry in "${ETCD_ENVIRONMENT[@]}"; do
    [[ $entry != "$variable="* ]] || value=${entry#*=}
  done
  flag "$1" "$value" "${ETCD_ARGUMENTS[@]}"
}

# is_data_dir_of MANIFEST: whether the data directory that process ETCD_PID sees is one that the manifest mounts. Sets HOST_PATH.
is_data_dir_of() {
  local line
  host_path "$DATA_DIR"
  [[ -n $HOST_PATH ]] || return 1
  while IFS= read -r line; do
    [[ $line =~ ^[[:space:]]+path:[[:space:]]*[\"\']?([^\"\'#]*[^\"\'#[:space:]]) ]] || continue
    [[ $HOST_PATH != "${BASH_REMATCH[1]%/}" && $HOST_PATH != "${BASH_REMATCH[1]%/}"/* ]] || return 0
  done <"$1"
  return 1
}

find_etcd() {
  local manifest comm pid name others='' found='' config=''
  find_static_pods
  manifest=$STATIC_PODS/etcd.yaml
  [[ -r $manifest ]] ||
    refuse "$EXIT_NO_ETCD" no-etcd "no readable $manifest on this node, expected kubeadm's static pod of etcd; check that this is a control-plane node with a stacked etcd"
  manifest_arguments "$manifest"
  flag name default "${ARGUMENTS[@]}"
  MEMBER_NAME=$FLAG
  flag data-dir "$MEMBER_NAME.etcd" "${ARGUMENTS[@]}"
  DATA_DIR=$FLAG
  flag config-file '' "${ARGUMENTS[@]}"
  [[ -z $FLAG ]] ||
    refuse "$EXIT_CONFIG_FILE" config-file "$manifest starts etcd with --config-file=$FLAG, expected flags as kubeadm writes them; etcd ignores every flag beside a config file, so move its settings into flags"
  for comm in /proc/[0-9]*/comm; do
    name=''
    read -r name 2>/dev/null <"$comm" || :
    [[ $name == etcd ]] || continue
    pid=${comm//[!0-9]/}
    # kubeadm can run etcd as the user that owns its data.
    if [[ ! /proc/$pid/ns/net -ef /proc/self/ns/net ]] || ! of_host "$pid" "$(stat -c %u -- "/proc/$pid/root/$DATA_DIR" 2>/dev/null)"; then
      continue
    fi
    read_etcd "$pid"
    etcd_setting config-file ''
    if [[ -n $FLAG ]]; then
      config+=" pid $pid with --config-file ${FLAG:0:100};"
      continue
    fi
    etcd_setting name default
    name=$FLAG
    etcd_setting data-dir "$name.etcd"
    if [[ $name != "$MEMBER_NAME" || $FLAG != "$DATA_DIR" ]]; then
      others+=" pid $pid with name '${name:0:100}' and data-dir '${FLAG:0:100}';"
    elif ! is_data_dir_of "$manifest"; then
      others+=" pid $pid with that name, whose $DATA_DIR lies at '${HOST_PATH:0:100}' on the host;"
    else
      found+=" $pid"
    fi
  done
  read -r ETCD_PID name <<<"$found"
  [[ -z $name ]] ||
    refuse "$EXIT_NOT_AS_MANIFEST" not-as-manifest "processes$found all are etcd with name '$MEMBER_NAME' on the data of $manifest, expected one; look at 'crictl ps'"
  if [[ -n $ETCD_PID ]]; then
    read_etcd "$ETCD_PID"
    is_data_dir_of "$manifest"
    HOST_DATA_DIR=$HOST_PATH
    return 0
  fi
  [[ -z $others ]] ||
    refuse "$EXIT_NOT_AS_MANIFEST" not-as-manifest "running here:$others expected name '$MEMBER_NAME' and data-dir '$DATA_DIR' as $manifest says; look at 'crictl ps' and the kubelet's log"
  [[ -z $config ]] ||
    refuse "$EXIT_CONFIG_FILE" config-file "running here:$config expected flags as kubeadm writes them; etcd ignores every flag beside a config file, so move its settings into flags"
  refuse "$EXIT_NO_ETCD" no-etcd "no process 'etcd' of the host in its network, expected the static pod of $manifest to be running; look at 'crictl ps -a' and the kubelet's log"
}

# read_etcd PID: sets ETCD_PID, ETCD_ARGUMENTS and ETCD_ENVIRONMENT (only what etcd reads of it).
read_etcd() {
  local entry
  ETCD_PID=$1
  read_arguments "/proc/$1/environ"
  ETCD_ENVIRONMENT=()
  for entry in "${ARGUMENTS[@]}"; do
    [[ $entry != ETCD_* ]] || ETCD_ENVIRONMENT+=("$entry")
  done
  read_arguments "/proc/$1/cmdline"
  ETCD_ARGUMENTS=("${ARGUMENTS[@]:1}")
}

# find_mount MOUNTINFO PATH: of the mounts of a process, the one that PATH lies on. Sets MOUNT_DEVICE, MOUNT_ROOT and MOUNT_POINT.
find_mount() {
  local device root point
  MOUNT_DEVICE='' MOUNT_ROOT='' MOUNT_POINT=''
  while read -r _ _ device root point _; do
    # mountinfo writes blanks as \040; printf gives them back.
    printf -v root '%b' "$root"
    printf -v point '%b' "$point"
    if [[ $2 == "$point" || $2 == "${point%/}"/* ]] && ((${#point} >= ${#MOUNT_POINT})); then
      MOUNT_DEVICE=$device MOUNT_ROOT=$root MOUNT_POINT=$point
    fi
  done <"$1"
}

# host_path PATH: sets HOST_PATH to where etcd's PATH lies on the host, or to '' when no mount of the host shows it.
host_path() {
  local device root point inside path
  HOST_PATH=''
  find_mount "/proc/$ETCD_PID/mountinfo" "$1"
  [[ -n $MOUNT_POINT ]] || return 0
  inside=${MOUNT_ROOT%/}${1#"${MOUNT_POINT%/}"}
  while read -r _ _ device root point _; do
    printf -v root '%b' "$root"
    printf -v point '%b' "$point"
    [[ $device == "$MOUNT_DEVICE" ]] || continue
    [[ $inside == "$root" || $inside == "${root%/}"/* ]] || continue
    path=${point%/}${inside#"${root%/}"}
    [[ $path -ef /proc/$ETCD_PID/root/$1 ]] || continue
    HOST_PATH=$path
    # Several mounts may show the same file: kubeadm gives both sides the same path.
    [[ $path != "$1" ]] || return 0
  done </proc/self/mountinfo
}

# ---------------------------------------------------------------- how to speak with it

# choose_url LIST: sets URL to the first loopback URL of a comma-separated list, else the first that names one address.
choose_url() {
  local url host
  local -a urls
  URL=''
  IFS=, read -r -a urls <<<"$1"
  for url in "${urls[@]}"; do
    [[ $url =~ ^https?://([]A-Za-z0-9._:%[-]+)$ ]] || continue
    host=${BASH_REMATCH[1]}
    case $host in
      127.* | localhost:* | localhost | '[::1]'*)
        URL=$url
        return 0
        ;;
      0.0.0.0* | '[::]'* | :*) ;;
      *) [[ -n $URL ]] || URL=$url ;;
    esac
  done
}

find_endpoint() {
  local listen advertise
  etcd_setting listen-client-urls http://localhost:2379
  listen=$FLAG
  etcd_setting advertise-client-urls http://localhost:2379
  advertise=$FLAG
  choose_url "$listen"
  # Listening on every address: the certificate then carries the advertised one.
  [[ -n $URL ]] || choose_url "$advertise"
  [[ -n $URL ]] ||
    refuse "$EXIT_NO_ENDPOINT" no-endpoint "no usable client URL in --listen-client-urls=$listen and --advertise-client-urls=$advertise, expected one with a loopback or concrete address; check $STATIC_PODS/etcd.yaml"
  ENDPOINT=$URL
  # With URLs of their own for HTTP, the others speak gRPC alone.
  etcd_setting listen-client-http-urls ''
  choose_url "$FLAG"
  HTTP_ENDPOINT=${URL:-$ENDPOINT}
}

# days_left FILE: sets DAYS_LEFT to the whole days until a certificate ends (negative: since it ended).
days_left() {
  local end
  end=$(openssl x509 -in "$1" -noout -enddate)
  end=$(date -d "${end#notAfter=}" +%s)
  DAYS_LEFT=$(((end - $(date +%s)) / 86400))
  # Division rounds towards zero: an hour after the end is day -1, not day 0.
  ((end > $(date +%s))) || DAYS_LEFT=$((DAYS_LEFT - 1))
}

# check_certificate CERT KEY: sets REASON (a code) and WHY, both '' when the pair can be used as a client.
check_certificate() {
  REASON='' WHY=''
  if [[ ! -e $1 || ! -e $2 ]]; then
    REASON=$EXIT_CERTIFICATE_MISSING WHY="$1 or its key does not exist"
  elif ! openssl x509 -in "$1" -noout 2>/dev/null || ! openssl pkey -in "$2" -noout -passin pass: 2>/dev/null; then
    REASON=$EXIT_CERTIFICATE_UNREADABLE WHY="$1 or its key cannot be read by openssl"
  elif [[ $(openssl x509 -in "$1" -noout -purpose) != *'SSL client : Yes'* ]]; then
    REASON=$EXIT_CERTIFICATE_NO_CLIENT_AUTH WHY="$1 has no clientAuth"
  elif [[ $(openssl x509 -in "$1" -noout -pubkey) != "$(openssl pkey -in "$2" -pubout -passin pass:)" ]]; then
    REASON=$EXIT_CERTIFICATE_UNREADABLE WHY="$1 does not belong to its key"
  else
    days_left "$1"
    if ((DAYS_LEFT < 0)); then
      REASON=$EXIT_CERTIFICATE_EXPIRED WHY="$1 expired $((-DAYS_LEFT)) days ago"
    elif ! openssl verify -CAfile "$CA" "$1" >/dev/null 2>&1; then
      REASON=$EXIT_CERTIFICATE_UNREADABLE WHY="$1 is not signed by $CA"
    fi
  fi
}

# The first pair with clientAuth of kubeadm's three. Paths of flags are the container's; these are the host's.
find_certificates() {
  local ca server_cert server_key pki pair worst=0 why='' name
  CA='' CERT='' KEY=''
  [[ $ENDPOINT == https://* ]] || return 0
  etcd_setting trusted-ca-file ''
  ca=$FLAG
  etcd_setting cert-file ''
  server_cert=$FLAG
  etcd_setting key-file ''
  server_key=$FLAG
  host_path "$ca"
  CA=$HOST_PATH
  [[ -n $ca && -r $CA ]] ||
    refuse "$EXIT_CERTIFICATE_MISSING" certificate-missing "--trusted-ca-file=$ca is not readable on the host, expected etcd's CA certificate; check $STATIC_PODS/etcd.yaml and its volumes"
  openssl x509 -in "$CA" -noout 2>/dev/null ||
    refuse "$EXIT_CERTIFICATE_UNREADABLE" certificate-unreadable "$CA cannot be read by openssl, expected etcd's CA certificate in PEM; restore it from a good control-plane node"
  pki=${CA%/*}
  host_path "$server_cert"
  server_cert=$HOST_PATH
  host_path "$server_key"
  server_key=$HOST_PATH
  CERTIFICATES=("$CA")
  for pair in "$pki/healthcheck-client" "${pki%/*}/apiserver-etcd-client" server; do
    if [[ $pair == server ]]; then
      name=$server_cert
      check_certificate "$server_cert" "$server_key"
    else
      name=$pair.crt
      check_certificate "$pair.crt" "$pair.key"
    fi
    if [[ -z $REASON && -z $CERT ]]; then
      CERT=$name KEY=${pair}.key
      [[ $pair != server ]] || KEY=$server_key
    fi
    [[ $REASON == "$EXIT_CERTIFICATE_MISSING" || $REASON == "$EXIT_CERTIFICATE_UNREADABLE" ]] || CERTIFICATES+=("$name")
    [[ -z $REASON ]] || why+="${why:+; }$WHY"
    # The codes grow with how near a pair came to being usable: the nearest one names the refusal.
    ((${REASON:-0} <= worst)) || worst=$REASON
  done
  if [[ -n $CERT ]]; then
    TLS=(--cacert "$CA" --cert "$CERT" --key "$KEY")
    return 0
  fi
  case $worst in
    "$EXIT_CERTIFICATE_EXPIRED") name='certificate-expired' ;;
    "$EXIT_CERTIFICATE_NO_CLIENT_AUTH") name='certificate-no-client-auth' ;;
    "$EXIT_CERTIFICATE_UNREADABLE") name='certificate-unreadable' ;;
    *) name='certificate-missing' ;;
  esac
  refuse "$worst" "$name" "no client certificate for etcd: $why; expected one valid pair with clientAuth; renew with 'kubeadm certs renew' and run the backup again"
}

# ask_http PATH: sets ANSWER to what etcd's HTTP side says. Errors go to the caller.
ask_http() {
  ANSWER=$(env -i PATH="$PATH" curl -q --silent --show-error --fail --globoff --noproxy '*' --connect-timeout 5 --max-time 10 \
    "${TLS[@]}" "$HTTP_ENDPOINT$1" 2>&1)
}

find_version() {
  ask_http /version ||
    refuse "$EXIT_NO_ENDPOINT" no-endpoint "etcd (pid $ETCD_PID) does not answer at $HTTP_ENDPOINT/version: ${ANSWER:0:300}; expected its version; check the member's log and its certificates"
  [[ $ANSWER =~ \"etcdserver\":\"([0-9]+\.[0-9]+\.[0-9]+)([^\"]*)\" ]] ||
    refuse "$EXIT_NO_ENDPOINT" no-endpoint "$HTTP_ENDPOINT/version answered '${ANSWER:0:100}', expected etcd's version; check what listens there"
  ETCD_VERSION=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
  CLUSTER_VERSION=unknown
  [[ ! $ANSWER =~ \"etcdcluster\":\"([^\"]*)\" ]] || CLUSTER_VERSION=${BASH_REMATCH[1]}
  case $(uname -m) in
    x86_64) ARCH=amd64 ;;
    aarch64) ARCH=arm64 ;;
    *) ARCH=$(uname -m) ;;
  esac
}

# ---------------------------------------------------------------- its tools

# check_pin NAME SHA256: refuses a tool whose hash is not one of those known for this version and architecture.
check_pin() {
  local pin expected=''
  for pin in $TOOL_PINS; do
    [[ ${pin%%=*} == "$ETCD_VERSION/$ARCH/$1" ]] || continue
    [[ ${pin#*=} != "$2" ]] || return 0
    expected+=" ${pin#*=}"
  done
  [[ -z $expected ]] ||
    refuse "$EXIT_TOOL_CHANGED" tool-changed "$1 $ETCD_VERSION ($ARCH) has SHA-256 $2, expected$expected as at earlier backups; it was not run; find out who changed the image on this node"
}

# use_tool NAME SHA256 SOURCE: makes the checked copy in staging the tool to run. Sets TOOL.
use_tool() {
  TOOL=$WORK/tools/$1
  chmod 0700 "$TOOL"
  TOOLS_JSON+="${TOOLS_JSON:+,}{\"name\":\"$1\",\"version\":$(json_string "$ETCD_VERSION"),\"arch\":\"$ARCH\",\"sha256\":\"$2\",\"source\":\"$3\"}"
}

# copy_tool NAME: a copy of the image's tool in staging, hashed and compared. Sets TOOL to it, or to ''. Binaries in a container's
# writable layer can change under us; our copy cannot.
copy_tool() {
  local dir source sha256
  TOOL=''
  for dir in usr/local/bin usr/bin bin; do
    source=/proc/$ETCD_PID/root/$dir/$1
    [[ -f $source && ! -L $source ]] || continue
    cp -- "$source" "$WORK/tools/$1"
    sha256=$(openssl dgst -sha256 -r "$WORK/tools/$1")
    sha256=${sha256%% *}
    check_pin "$1" "$sha256"
    use_tool "$1" "$sha256" image
    return 0
  done
}

# fetch_tool NAME: the same from the bucket's tools/, through a URL that came as parameter, checked against its hash. TOOL is '' when
# the bucket has none for this version, or when it cannot be fetched: stderr then says why, and the caller what follows from it.
fetch_tool() {
  local entry rest sha256 found
  local -a entries
  TOOL=''
  # Not "for entry in $TOOL_URLS": the "?" of a URL is a pattern for file names there.
  read -r -a entries <<<"$TOOL_URLS"
  for entry in "${entries[@]}"; do
    [[ ${entry%%=*} == "$ETCD_VERSION/$ARCH/$1" ]] || continue
    rest=${entry#*=}
    sha256=${rest%%=*}
    log "fetching $1 $ETCD_VERSION from the bucket"
    if ! printf 'url = "%s"\noutput = "%s"\n' "${rest#*=}" "$WORK/tools/$1" |
      curl -q --config - --silent --show-error --fail --globoff --connect-timeout 10 --max-time 120; then
      log "$1 $ETCD_VERSION could not be fetched from the bucket's tools/: check the node's route to S3"
      return 0
    fi
    found=$(openssl dgst -sha256 -r "$WORK/tools/$1")
    found=${found%% *}
    [[ $found == "$sha256" ]] ||
      refuse "$EXIT_TOOL_CHANGED" tool-changed "$1 $ETCD_VERSION from the bucket has SHA-256 $found, expected $sha256; it was not run; look at the bucket's tools/ prefix"
    use_tool "$1" "$sha256" bucket
    return 0
  done
}

find_tools() {
  local minor patch
  TOOLS_JSON=''
  mkdir "$WORK/tools"
  copy_tool etcdctl
  [[ -n $TOOL ]] || fetch_tool etcdctl
  ETCDCTL=$TOOL
  [[ -n $ETCDCTL ]] ||
    refuse "$EXIT_NO_TOOL" no-tool "no etcdctl in the image of etcd $ETCD_VERSION, expected it in /usr/local/bin there, or to be fetched from the bucket; run 'npm run tools -- add $ETCD_VERSION'"
  copy_tool etcdutl
  STATUS_TOOL=$TOOL
  [[ -z $STATUS_TOOL ]] || return 0
  minor=${ETCD_VERSION#*.}
  patch=${minor#*.}
  minor=${minor%%.*}
  patch=${patch%%[!0-9]*}
  # etcdctl lost 'snapshot status' and 'restore' in 3.6; before 3.5.10 its restore cannot raise the revision.
  if ((minor == 5 && patch >= 10)); then
    STATUS_TOOL=$ETCDCTL
    return 0
  fi
  fetch_tool etcdutl
  STATUS_TOOL=$TOOL
  [[ -z $STATUS_TOOL ]] || return 0
  ((minor >= 6)) || STATUS_TOOL=$ETCDCTL
  FINDINGS+=(tools-missing)
}

# etcdctl ARGUMENT...: asks this node's etcd (or the endpoints in ASK_AT). An ETCDCTL_* of root's environment is fatal beside the
# flag of the same name, so the tools get an environment of their own.
etcdctl() {
  env -i PATH=/nonexistent HOME=/nonexistent ETCDCTL_API=3 "$ETCDCTL" --endpoints="${ASK_AT:-$ENDPOINT}" --dial-timeout=5s \
    ${TLS[@]+--cacert="$CA" --cert="$CERT" --key="$KEY"} "$@"
}

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
  ask get --consistency=l --limit=1 --keys-only /registry/
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
  [[ $leader != 0 ]] ||
    refuse "$EXIT_NO_QUORUM" no-quorum "member $MEMBER_ID ($MEMBER_NAME) knows no leader, expected one; a member that is cut off would save stale data"
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
  [[ ${ANSWERING_NAME-} == "$MEMBER_NAME" ]] ||
    refuse "$EXIT_WRONG_MEMBER" wrong-member "$ENDPOINT is answered by member $MEMBER_ID named '${ANSWERING_NAME-not in the member list}', expected '$MEMBER_NAME' as $STATIC_PODS/etcd.yaml says; check for a second etcd or a proxy on that address"
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

# ---------------------------------------------------------------- what the result says besides

# sha256_of FILE: sets SHA256_OF to a JSON string, or null when there is no such file.
sha256_of() {
  SHA256_OF=null
  [[ -r $1 ]] || return 0
  SHA256_OF=$(openssl dgst -sha256 -r "$1")
  SHA256_OF="\"${SHA256_OF%% *}\""
}

# fingerprint FILE: sets FINGERPRINT to a certificate's SHA-256 as a JSON string, or null.
fingerprint() {
  FINGERPRINT=null
  [[ -r $1 ]] || return 0
  FINGERPRINT=$(openssl x509 -in "$1" -outform DER | openssl dgst -sha256 -r)
  FINGERPRINT="\"${FINGERPRINT%% *}\""
}

describe_cluster() {
  local manifest=$STATIC_PODS/kube-apiserver.yaml line pki=/etc/kubernetes/pki certificate
  KUBERNETES_VERSION=null ENCRYPTION=null
  if [[ -r $manifest ]]; then
    while IFS= read -r line; do
      if [[ $line =~ image:.*kube-apiserver:(v[0-9][A-Za-z0-9.+-]*) ]]; then
        KUBERNETES_VERSION="\"${BASH_REMATCH[1]}\""
      fi
    done <"$manifest"
    manifest_arguments "$manifest"
    flag encryption-provider-config '' "${ARGUMENTS[@]}"
    sha256_of "${FLAG:-/nonexistent}"
    ENCRYPTION=$SHA256_OF
  fi
  fingerprint "$CA"
  ETCD_CA=$FINGERPRINT
  fingerprint $pki/ca.crt
  CLUSTER_CA=$FINGERPRINT
  sha256_of $pki/sa.pub
  SA_PUB=$SHA256_OF
  CERTIFICATES_JSON=''
  for certificate in "${CERTIFICATES[@]}"; do
    days_left "$certificate"
    CERTIFICATES_JSON+="${CERTIFICATES_JSON:+,}{\"file\":$(json_string "$certificate"),\"daysLeft\":$DAYS_LEFT}"
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
  begin cat cp curl date df env flock gzip head install mkfifo nice od openssl readlink sleep stat tail tee tr uname
  make_room
  STAGED=$STAGING_DIR/$BACKUP_ID WORK=$STAGED
  mkdir -p -- "$WORK"
  FINDINGS=() CERTIFICATES=()

  find_etcd
  find_endpoint
  find_certificates
  find_version
  check_disk
  find_tools
  check_member
  check_members
  check_alarms
  describe_cluster
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
    printf ',"tools":[%s],"findings":%s' "$TOOLS_JSON" "$(json_strings "${FINDINGS[@]}")"
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
