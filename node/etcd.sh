#!/bin/bash
# The right etcd of this node, how to speak with it, and its tools: what every script that deals with etcd shares.
# Put between contract.sh and the script when its SSM document is made (lib/script-document.ts).
#
# shellcheck disable=SC2034,SC2154  # what is defined here is used by the script that follows it, and the other way round

ETCDCTL='' ASK_AT='' TLS=()

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

# The manifest's own words: sets MANIFEST, MEMBER_NAME, DATA_DIR, ETCD_ARGUMENTS, ETCD_ENVIRONMENT and MOUNTS as if etcd ran by it.
read_manifest() {
  local line variable=''
  MANIFEST=$1 ETCD_PID='' ETCD_ENVIRONMENT=() RUN_AS='' RUN_AS_GROUP=''
  manifest_arguments "$MANIFEST"
  ETCD_ARGUMENTS=("${ARGUMENTS[@]}")
  while IFS= read -r line || [[ -n $line ]]; do
    # kubeadm can run etcd as a user of its own.
    [[ ! $line =~ ^[[:space:]]*runAsUser:[[:space:]]*([0-9]+) ]] || RUN_AS=${BASH_REMATCH[1]}
    [[ ! $line =~ ^[[:space:]]*runAsGroup:[[:space:]]*([0-9]+) ]] || RUN_AS_GROUP=${BASH_REMATCH[1]}
    if [[ $line =~ ^[[:space:]]*(-[[:space:]]+)?name:[[:space:]]*[\"\']?(ETCD_[A-Z0-9_]+) ]]; then
      variable=${BASH_REMATCH[2]}
    elif [[ -n $variable && $line =~ ^[[:space:]]*(-[[:space:]]+)?value:[[:space:]]*[\"\']?([^\"\'#]*[^\"\'#[:space:]]) ]]; then
      ETCD_ENVIRONMENT+=("$variable=${BASH_REMATCH[2]}")
      variable=''
    fi
  done <"$MANIFEST"
  read_mounts "$MANIFEST"
  etcd_setting name default
  MEMBER_NAME=$FLAG
  etcd_setting data-dir "$MEMBER_NAME.etcd"
  DATA_DIR=$FLAG
}

# read_mounts FILE: sets MOUNTS to "path in the container=path on the host" of a static pod's hostPath volumes.
read_mounts() {
  local line indent section='' section_indent=0 key value name='' mount='' path=''
  local -A mount_of=() path_of=()
  MOUNTS=()
  while IFS= read -r line || [[ -n $line ]]; do
    [[ $line =~ ^([[:space:]]*)(-[[:space:]]+)?([A-Za-z]+):[[:space:]]*[\"\']?([^\"\'#]*[^\"\'#[:space:]])?[\"\']?[[:space:]]*(#.*)?$ ]] || continue
    indent=${#BASH_REMATCH[1]} key=${BASH_REMATCH[3]} value=${BASH_REMATCH[4]}
    if [[ -n $section ]] && ((indent < section_indent || (indent == section_indent && ${#BASH_REMATCH[2]} == 0))); then
      section=''
    fi
    if [[ $key == volumeMounts || $key == volumes ]] && [[ -z $section ]]; then
      section=$key section_indent=$indent
      continue
    fi
    [[ -n $section ]] || continue
    if [[ -n ${BASH_REMATCH[2]} ]]; then
      name='' mount='' path=''
    fi
    case $key in
      name) name=$value ;;
      mountPath) mount=$value ;;
      path) path=$value ;;
    esac
    if [[ $section == volumeMounts && -n $name && -n $mount ]]; then
      mount_of[$name]=${mount%/}
    elif [[ $section == volumes && -n $name && -n $path ]]; then
      path_of[$name]=${path%/}
    fi
  done <"$1"
  for name in "${!mount_of[@]}"; do
    [[ -z ${path_of[$name]-} ]] || MOUNTS+=("${mount_of[$name]}=${path_of[$name]}")
  done
}

# look_for_etcd MANIFEST: sets ETCD_PID and reads the process, or leaves ETCD_PID '' and says in ABSENCE (code, name, message) why.
look_for_etcd() {
  local manifest=$1 comm pid name others='' found='' config=''
  ETCD_PID='' ABSENCE=()
  manifest_arguments "$manifest"
  flag name default "${ARGUMENTS[@]}"
  MEMBER_NAME=$FLAG
  flag data-dir "$MEMBER_NAME.etcd" "${ARGUMENTS[@]}"
  DATA_DIR=$FLAG
  flag config-file '' "${ARGUMENTS[@]}"
  if [[ -n $FLAG ]]; then
    ABSENCE=("$EXIT_CONFIG_FILE" config-file "$manifest starts etcd with --config-file=$FLAG, expected flags as kubeadm writes them; etcd ignores every flag beside a config file, so move its settings into flags")
    return 0
  fi
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
      [[ -d /proc/$pid/root/ ]] || continue
      others+=" pid $pid with that name, whose $DATA_DIR lies at '${HOST_PATH:0:100}' on the host;"
    else
      found+=" $pid"
    fi
  done
  ETCD_PID=''
  read -r pid name <<<"$found"
  if [[ -n $name ]]; then
    ABSENCE=("$EXIT_NOT_AS_MANIFEST" not-as-manifest "processes$found all are etcd with name '$MEMBER_NAME' on the data of $manifest, expected one; look at 'crictl ps'")
  elif [[ -n $pid ]]; then
    read_etcd "$pid"
    if is_data_dir_of "$manifest"; then
      HOST_DATA_DIR=$HOST_PATH
    else
      ETCD_PID=''
      ABSENCE=("$EXIT_NO_ETCD" no-etcd "etcd (pid $pid) ended while it was looked at, expected the static pod of $manifest to go on running; look at 'crictl ps -a' and its log")
    fi
  elif [[ -n $others ]]; then
    ABSENCE=("$EXIT_NOT_AS_MANIFEST" not-as-manifest "running here:$others expected name '$MEMBER_NAME' and data-dir '$DATA_DIR' as $manifest says; look at 'crictl ps' and the kubelet's log")
  elif [[ -n $config ]]; then
    ABSENCE=("$EXIT_CONFIG_FILE" config-file "running here:$config expected flags as kubeadm writes them; etcd ignores every flag beside a config file, so move its settings into flags")
  else
    ABSENCE=("$EXIT_NO_ETCD" no-etcd "no process 'etcd' of the host in its network, expected the static pod of $manifest to be running; look at 'crictl ps -a' and the kubelet's log")
  fi
}

find_etcd() {
  find_static_pods
  MANIFEST=$STATIC_PODS/etcd.yaml
  [[ -r $MANIFEST ]] ||
    refuse "$EXIT_NO_ETCD" no-etcd "no readable $MANIFEST on this node, expected kubeadm's static pod of etcd; check that this is a control-plane node with a stacked etcd"
  look_for_etcd "$MANIFEST"
  [[ -n $ETCD_PID ]] || refuse "${ABSENCE[@]}"
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
  # An etcd that crashes again and again may be gone by now: then it has no mounts.
  done 2>/dev/null <"$1" || :
}

# host_path PATH: sets HOST_PATH to where etcd's PATH lies on the host, or to '' when no mount of the host shows it. Without a running
# etcd the manifest's volumes say it.
host_path() {
  local device root point inside path mount longest=-1
  HOST_PATH=''
  if [[ -z $ETCD_PID ]]; then
    for mount in "${MOUNTS[@]}"; do
      point=${mount%%=*}
      if [[ $1 == "$point" || $1 == "$point"/* ]] && ((${#point} > longest)); then
        longest=${#point}
        HOST_PATH=${mount#*=}${1#"$point"}
      fi
    done
    return 0
  fi
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

# The first pair with clientAuth of kubeadm's three: sets CA, CERT, KEY, TLS and CERTIFICATES, or NO_CERTIFICATE (code, name, message).
# Paths of flags are the container's; these are the host's.
choose_certificates() {
  local ca server_cert server_key pki pair worst=0 why='' name
  CA='' CERT='' KEY='' TLS=() CERTIFICATES=() NO_CERTIFICATE=()
  [[ $ENDPOINT == https://* ]] || return 0
  etcd_setting trusted-ca-file ''
  ca=$FLAG
  etcd_setting cert-file ''
  server_cert=$FLAG
  etcd_setting key-file ''
  server_key=$FLAG
  host_path "$ca"
  CA=$HOST_PATH
  if [[ -z $ca || ! -r $CA ]]; then
    NO_CERTIFICATE=("$EXIT_CERTIFICATE_MISSING" certificate-missing "--trusted-ca-file=$ca is not readable on the host, expected etcd's CA certificate; check $MANIFEST and its volumes")
    return 0
  fi
  if ! openssl x509 -in "$CA" -noout 2>/dev/null; then
    NO_CERTIFICATE=("$EXIT_CERTIFICATE_UNREADABLE" certificate-unreadable "$CA cannot be read by openssl, expected etcd's CA certificate in PEM; restore it from a good control-plane node")
    return 0
  fi
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
  # shellcheck disable=SC2034
  NO_CERTIFICATE=("$worst" "$name" "no client certificate for etcd: $why; expected one valid pair with clientAuth; renew with 'kubeadm certs renew' and run it again")
}

find_certificates() {
  choose_certificates
  ((${#NO_CERTIFICATE[@]} == 0)) || refuse "${NO_CERTIFICATE[@]}"
}

# ask_http PATH: sets ANSWER to what etcd's HTTP side says. Errors go to the caller.
ask_http() {
  ANSWER=$(env -i PATH="$PATH" curl -q --silent --show-error --fail --globoff --noproxy '*' --connect-timeout 5 --max-time 10 \
    "${TLS[@]}" "$HTTP_ENDPOINT$1" 2>&1)
}

# ask_gateway PATH JSON: sets ANSWER to what etcd's gRPC gateway answers, ids and revisions as decimal strings. It needs no
# quorum unless the request asks for one.
ask_gateway() {
  local status
  ANSWER=$(env -i PATH="$PATH" curl -q --silent --show-error --globoff --noproxy '*' --connect-timeout 5 --max-time 10 \
    --request POST --data "$2" --write-out '%{http_code}' "${TLS[@]}" "$HTTP_ENDPOINT$1" 2>&1) || return 1
  # Not --fail: what etcd says about a refusal is worth reading.
  status=${ANSWER: -3} ANSWER=${ANSWER%???}
  [[ $status == 200 ]]
}

# json_number NAME: sets FIELD to the number (in quotes or not) that ANSWER has first under that name, or to ''.
json_number() {
  FIELD=''
  [[ ! $ANSWER =~ \"$1\":\"?([0-9]{1,20}) ]] || FIELD=${BASH_REMATCH[1]}
}

# hex_of DECIMAL: sets HEX to an id as etcd writes it; '' and '0' are "0".
hex_of() {
  printf -v HEX '%x' "${1:-0}"
}

# ask_members LINEARIZABLE: sets MEMBERS_JSON, MEMBER_IDS, MEMBER_NAMES and MEMBER_PEERS. "false" needs no quorum.
ask_members() {
  local rest entry id name peers clients learner
  ask_gateway /v3/cluster/member/list "{\"linearizable\":$1}" || return 1
  MEMBERS_JSON='' MEMBER_IDS=() MEMBER_NAMES=() MEMBER_PEERS=()
  rest=$ANSWER
  while [[ $rest =~ \{(\"ID\":[^{}]*)\}(.*)$ ]]; do
    entry=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]} id='' name='' peers='' clients='' learner=false
    [[ ! $entry =~ \"ID\":\"([0-9]+)\" ]] || hex_of "${BASH_REMATCH[1]}"
    id=$HEX
    [[ ! $entry =~ \"name\":\"([^\"\\]*)\" ]] || name=${BASH_REMATCH[1]}
    [[ ! $entry =~ \"peerURLs\":\[([^]\\]*)\] ]] || peers=${BASH_REMATCH[1]}
    [[ ! $entry =~ \"clientURLs\":\[([^]\\]*)\] ]] || clients=${BASH_REMATCH[1]}
    [[ $entry != *'"isLearner":true'* ]] || learner=true
    # An IPv6 URL has brackets of its own, which end the list too early above.
    [[ ! $entry =~ \"peerURLs\":\[((\"[^\"\\]*\",?)*)\] ]] || peers=${BASH_REMATCH[1]}
    [[ ! $entry =~ \"clientURLs\":\[((\"[^\"\\]*\",?)*)\] ]] || clients=${BASH_REMATCH[1]}
    MEMBER_IDS+=("$id") MEMBER_NAMES+=("$name")
    MEMBER_PEERS+=("${peers//\"/}")
    MEMBERS_JSON+="${MEMBERS_JSON:+,}{\"id\":\"$id\",\"name\":$(json_string "$name"),\"peerUrls\":[$peers],\"clientUrls\":[$clients],\"isLearner\":$learner}"
  done
}

find_version() {
  ask_http /version ||
    refuse "$EXIT_NO_ENDPOINT" no-endpoint "etcd (pid $ETCD_PID) does not answer at $HTTP_ENDPOINT/version: ${ANSWER:0:300}; expected its version; check the member's log and its certificates"
  [[ $ANSWER =~ \"etcdserver\":\"([0-9]+\.[0-9]+\.[0-9]+)([^\"]*)\" ]] ||
    refuse "$EXIT_NO_ENDPOINT" no-endpoint "$HTTP_ENDPOINT/version answered '${ANSWER:0:100}', expected etcd's version; check what listens there"
  ETCD_VERSION=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
  CLUSTER_VERSION=unknown
  [[ ! $ANSWER =~ \"etcdcluster\":\"([^\"]*)\" ]] || CLUSTER_VERSION=${BASH_REMATCH[1]}
  find_arch
}

# find_arch: sets ARCH as etcd's releases call it.
find_arch() {
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

# image_tool NAME: sets IMAGE_TOOL to where the tool lies in the member's image, or to ''.
image_tool() {
  local dir
  for dir in usr/local/bin usr/bin bin; do
    IMAGE_TOOL=/proc/$ETCD_PID/root/$dir/$1
    [[ ! -f $IMAGE_TOOL || -L $IMAGE_TOOL ]] || return 0
  done
  IMAGE_TOOL=''
}

# hash_of FILE: sets HASH_OF to its SHA-256 in hex.
hash_of() {
  HASH_OF=$(openssl dgst -sha256 -r "$1")
  HASH_OF=${HASH_OF%% *}
}

# copy_tool NAME: a copy of the image's tool in staging, hashed and compared. Sets TOOL to it, or to ''. Binaries in a container's
# writable layer can change under us; our copy cannot.
copy_tool() {
  TOOL=''
  image_tool "$1"
  [[ -n $IMAGE_TOOL ]] || return 0
  cp -- "$IMAGE_TOOL" "$WORK/tools/$1"
  hash_of "$WORK/tools/$1"
  check_pin "$1" "$HASH_OF"
  use_tool "$1" "$HASH_OF" image
}

# fetch_tool NAME: the same from the bucket's tools/, through a URL that came as parameter, checked against its hash. TOOL is '' when
# the bucket has none for this version, or when it cannot be fetched: stderr then says why, and the caller what follows from it.
fetch_tool() {
  local entry rest sha256
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
    hash_of "$WORK/tools/$1"
    [[ $HASH_OF == "$sha256" ]] ||
      refuse "$EXIT_TOOL_CHANGED" tool-changed "$1 $ETCD_VERSION from the bucket has SHA-256 $HASH_OF, expected $sha256; it was not run; look at the bucket's tools/ prefix"
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

# ---------------------------------------------------------------- who the cluster is

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

# Who this cluster is, as this node sees it: sets KUBERNETES_VERSION, ENCRYPTION, ETCD_CA, CLUSTER_CA, SA_PUB (JSON each) and CERTIFICATES_JSON. The
# argument is the folder of the API server's manifest.
describe_cluster() {
  local manifest=$1/kube-apiserver.yaml line pki=/etc/kubernetes/pki certificate
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
