#!/bin/bash
# Says what a restore would find on this node. Reads only: it takes no lock and writes no file, so that a plan changes nothing.
# Parameters: ClusterName, Peers (peer URLs to look for, separated by blanks).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# One connection attempt takes 2 s at most, and the document has 120 s for everything.
readonly MAX_PEERS=12

# yes_no COMMAND...: sets YES_NO to true or false by a command's status.
yes_no() {
  if "$@"; then
    YES_NO=true
  else
    YES_NO=false
  fi
}

# urls_json LIST: a comma-separated list as a JSON array.
urls_json() {
  local -a urls
  IFS=, read -r -a urls <<<"$1"
  json_strings "${urls[@]}"
}

describe_kubelet() {
  local installed=false enabled
  yes_no kubelet_active
  enabled=$(systemctl is-enabled kubelet 2>/dev/null) || :
  # Any word but these two says that there is a unit.
  [[ -z $enabled || $enabled == not-found ]] || installed=true
  KUBELET_JSON="{\"installed\":$installed,\"active\":$YES_NO,\"version\":null}"
}

describe_journal() {
  local key phase stopped=false began=false checked=false undone=false nodes=null
  read_journal
  JOURNAL_JSON=null
  [[ -n $JOURNAL_ID ]] || return 0
  [[ -z ${JOURNAL[static-pods]-} ]] || STATIC_PODS=${JOURNAL[static-pods]}
  ASIDE_DIR=${STATIC_PODS%/*}/manifests.before-$JOURNAL_ID
  phase=preflight
  for key in stop swap start rollback; do
    [[ -z ${JOURNAL[$key]-} ]] || phase=$key
  done
  [[ -z ${JOURNAL[stop]-} || ${JOURNAL[undone]-} == yes ]] || stopped=true
  [[ -z ${JOURNAL[start]-} ]] || began=true
  [[ ${JOURNAL[checked]-} != yes ]] || checked=true
  [[ ${JOURNAL[undone]-} != yes ]] || undone=true
  [[ ! ${JOURNAL[nodes]-} =~ ^[0-9]{1,3}$ ]] || nodes=$((10#${JOURNAL[nodes]}))
  yes_no test -n "${JOURNAL[served]-}"
  JOURNAL_JSON="{\"restoreId\":\"$JOURNAL_ID\",\"phase\":\"$phase\",\"stopped\":$stopped,\"started\":$began,\"checked\":$checked,\"undone\":$undone,\"nodes\":$nodes,\"served\":$YES_NO}"
}

# Where the manifest says that etcd is. Nothing here refuses: what is missing is for the plan to say.
describe_etcd() {
  local entry line image='' flag
  local -a cluster
  ETCD_STATE=missing MANIFEST='' ETCD_VERSION_JSON=null ETCD_IMAGE=null INITIAL_CLUSTER='' QUOTA=0
  MEMBER_NAME='' DATA_DIR='' HOST_DATA_DIR='' WAL_DIR='' HOST_WAL_DIR='' ETCD_PEERS='' ETCD_CLIENTS='' ETCD_PID=''
  if [[ -r $STATIC_PODS/etcd.yaml ]]; then
    ETCD_STATE=present MANIFEST=$STATIC_PODS/etcd.yaml
  elif [[ -r $ASIDE_DIR/etcd.yaml ]]; then
    ETCD_STATE=aside MANIFEST=$ASIDE_DIR/etcd.yaml
  else
    return 0
  fi
  read_manifest "$MANIFEST"
  host_path "$DATA_DIR"
  HOST_DATA_DIR=$HOST_PATH
  etcd_setting wal-dir ''
  WAL_DIR=$FLAG
  if [[ -n $WAL_DIR ]]; then
    host_path "$WAL_DIR"
    HOST_WAL_DIR=$HOST_PATH
    # Where it is anyway.
    if [[ ${HOST_WAL_DIR%/} == "${HOST_DATA_DIR%/}/member/wal" ]]; then
      WAL_DIR='' HOST_WAL_DIR=''
    fi
  fi
  [[ ! -d $HOST_DATA_DIR ]] || HOST_DATA_DIR=$(readlink -f -- "$HOST_DATA_DIR")
  etcd_setting config-file ''
  [[ -z $FLAG ]] ||
    PROBLEMS+=("$MANIFEST starts etcd with --config-file=$FLAG, expected flags as kubeadm writes them; move its settings into flags")
  etcd_setting force-new-cluster false
  [[ $FLAG == false ]] ||
    PROBLEMS+=("$MANIFEST starts etcd with --force-new-cluster, expected it without: every node would become a cluster of its own; remove the flag")
  stray_manifest
  [[ -z $STRAY ]] || PROBLEMS+=("$STRAY")
  etcd_setting quota-backend-bytes 0
  [[ ! $FLAG =~ ^[0-9]{1,18}$ ]] || QUOTA=$((10#$FLAG))
  # etcd's own default, server/storage/backend.
  ((QUOTA > 0)) || QUOTA=2147483648
  # Below zero there is none.
  [[ $FLAG != -* ]] || QUOTA=9007199254740991
  etcd_setting initial-advertise-peer-urls ''
  ETCD_PEERS=$FLAG
  etcd_setting advertise-client-urls ''
  ETCD_CLIENTS=$FLAG
  etcd_setting initial-cluster ''
  flag=$FLAG
  IFS=, read -r -a cluster <<<"$flag"
  for entry in "${cluster[@]}"; do
    INITIAL_CLUSTER+="${INITIAL_CLUSTER:+,}{\"name\":$(json_string "${entry%%=*}"),\"peerUrl\":$(json_string "${entry#*=}")}"
    PEERS+=("${entry#*=}")
  done
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ -z $image && $line =~ image:[[:space:]]*[\"\']?([^\"\'#[:space:]]+) ]]; then
      image=${BASH_REMATCH[1]}
      ETCD_IMAGE=$(json_string "$image")
      # kubeadm's tags: 3.6.4-0.
      [[ ! $image =~ :v?([0-9]+\.[0-9]+\.[0-9]+) ]] || ETCD_VERSION_JSON="\"${BASH_REMATCH[1]}\""
    fi
  done <"$MANIFEST"
}

# What the member itself says, when it runs: all of it but alarms without a quorum.
describe_member() {
  local linearizable alarms=null alarm peer
  MEMBER_JSON=null RUNNING=false TOOLS_JSON=''
  [[ $ETCD_STATE != missing ]] || return 0
  look_for_etcd "$MANIFEST"
  if [[ -z $ETCD_PID ]]; then
    [[ ${ABSENCE[0]} == "$EXIT_NO_ETCD" ]] || PROBLEMS+=("${ABSENCE[2]}")
    # The process was looked for among others: back to the manifest's words.
    read_manifest "$MANIFEST"
    host_path "$DATA_DIR"
    HOST_DATA_DIR=$HOST_PATH
  else
    RUNNING=true
  fi
  find_endpoint
  choose_certificates
  ((${#NO_CERTIFICATE[@]} == 0)) || PROBLEMS+=("${NO_CERTIFICATE[2]}")
  [[ $RUNNING == true && ${#NO_CERTIFICATE[@]} -eq 0 ]] || return 0
  if ask_http /version && [[ $ANSWER =~ \"etcdserver\":\"([0-9]+\.[0-9]+\.[0-9]+[^\"]*)\" ]]; then
    ETCD_VERSION_JSON=$(json_string "${BASH_REMATCH[1]}")
  fi
  describe_tools
  ask_status || return 0
  yes_no can_read
  linearizable=$YES_NO
  ask_members false || return 0
  for peer in "${MEMBER_PEERS[@]}"; do
    PEERS+=("${peer%%,*}")
  done
  if [[ $linearizable == true ]] && ask_alarms; then
    alarms=''
    for alarm in "${ALARMS[@]}"; do
      alarms+="${alarms:+,}\"${alarm#*:}\""
    done
    alarms="[$alarms]"
  fi
  MEMBER_JSON="{\"id\":\"$STATUS_MEMBER\",\"clusterId\":\"$STATUS_CLUSTER\",\"leaderId\":\"$STATUS_LEADER\",\"revision\":$STATUS_REVISION,\"raftTerm\":$STATUS_TERM"
  MEMBER_JSON+=",\"raftIndex\":\"$STATUS_INDEX\",\"raftAppliedIndex\":\"$STATUS_APPLIED\",\"isLearner\":$STATUS_LEARNER,\"dbSize\":$STATUS_SIZE,\"dbSizeInUse\":$STATUS_IN_USE"
  MEMBER_JSON+=",\"linearizable\":$linearizable,\"alarms\":$alarms,\"members\":[$MEMBERS_JSON]}"
}

# The image's tools by hash, where they are; nothing is copied and nothing run.
describe_tools() {
  local name dir source sha256 version
  version=${ETCD_VERSION_JSON//\"/}
  for name in etcd etcdctl etcdutl; do
    for dir in usr/local/bin usr/bin bin; do
      source=/proc/$ETCD_PID/root/$dir/$name
      [[ -f $source && ! -L $source ]] || continue
      # Gone since, with its container.
      sha256=$(openssl dgst -sha256 -r "$source" 2>/dev/null) || break
      TOOLS_JSON+="${TOOLS_JSON:+,}{\"name\":\"$name\",\"version\":$(json_string "$version"),\"arch\":\"$ARCH\",\"sha256\":\"${sha256%% *}\",\"source\":\"image\"}"
      break
    done
  done
}

describe_api_server() {
  local running servers folder=$STATIC_PODS
  manifest_of kube-apiserver
  API_SERVER_JSON='{"manifest":false,"version":null,"etcdServers":[],"running":false,"ready":false}'
  serving_certificates
  # Who the cluster is can be seen without an API server, too.
  [[ -z $COMPONENT_MANIFEST ]] || folder=${COMPONENT_MANIFEST%/*}
  describe_cluster "$folder"
  [[ -n $COMPONENT_MANIFEST ]] || return 0
  manifest_arguments "$COMPONENT_MANIFEST"
  flag etcd-servers '' "${ARGUMENTS[@]}"
  servers=$(urls_json "$FLAG")
  component_pids kube-apiserver
  yes_no test "${#PIDS[@]}" -gt 0
  running=$YES_NO
  yes_no api_server_ready
  API_SERVER_JSON="{\"manifest\":true,\"version\":$KUBERNETES_VERSION,\"etcdServers\":$servers,\"running\":$running,\"ready\":$YES_NO}"
}

# Controllers that an earlier restore holds back.
describe_held() {
  local component id
  HELD_JSON=''
  for component in kube-controller-manager kube-scheduler; do
    find_held "$component"
    for id in "${HELD[@]}"; do
      HELD_JSON+="${HELD_JSON:+,}{\"component\":\"$component\",\"restoreId\":\"$id\"}"
    done
  done
}

describe_data() {
  local line kept='' path member=false bytes=null mount=false
  DISK_JSON='{"size":0,"available":0}'
  DATA_JSON="{\"member\":false,\"dbBytes\":null,\"kept\":[],\"ownMount\":false}"
  if [[ -z $HOST_DATA_DIR ]]; then
    [[ $ETCD_STATE == missing ]] ||
      PROBLEMS+=("--data-dir=$DATA_DIR of $MANIFEST lies on no hostPath volume, expected one; correct the manifest's volumes")
    return 0
  fi
  [[ ! -d $HOST_DATA_DIR/member ]] || member=true
  [[ ! -f $HOST_DATA_DIR/member/snap/db ]] || bytes=$(stat -c %s -- "$HOST_DATA_DIR/member/snap/db")
  for path in "$HOST_DATA_DIR"/member.before-*; do
    [[ ! $path =~ /member\.before-([0-9]{8}T[0-9]{6}Z)$ || ! -d $path ]] || kept+="${kept:+,}\"${BASH_REMATCH[1]}\""
  done
  ! own_mount "$HOST_DATA_DIR/member" || mount=true
  DATA_JSON="{\"member\":$member,\"dbBytes\":$bytes,\"kept\":[$kept],\"ownMount\":$mount}"
  path=$HOST_DATA_DIR
  # Gone with its disk: it would be made anew.
  while [[ ! -d ${path:-/} ]]; do path=${path%/*}; done
  line=$(df -B1 --output=size,avail -- "${path:-/}" | tail -n 1)
  read -r line bytes <<<"$line"
  DISK_JSON="{\"size\":$line,\"available\":$bytes}"
}

# The images that the components need: past 85 % of the disk the kubelet deletes unused ones.
describe_images() {
  local component line present runtime=no
  IMAGES_JSON=''
  # A crictl that cannot reach the runtime knows nothing of images.
  ! { type -P crictl >/dev/null && timeout 10 crictl images -q >/dev/null 2>&1; } || runtime=yes
  for component in "${COMPONENTS[@]}"; do
    manifest_of "$component"
    [[ -n $COMPONENT_MANIFEST ]] || continue
    while IFS= read -r line || [[ -n $line ]]; do
      [[ $line =~ image:[[:space:]]*[\"\']?([^\"\'#[:space:]]+) ]] || continue
      line=${BASH_REMATCH[1]} present=null
      if [[ $runtime == yes ]]; then
        yes_no timeout 10 crictl inspecti -q "$line" >/dev/null 2>&1
        present=$YES_NO
      fi
      IMAGES_JSON+="${IMAGES_JSON:+,}{\"name\":$(json_string "$line"),\"present\":$present}"
      break
    done <"$COMPONENT_MANIFEST"
  done
}

describe_peers() {
  local url seen=' ' count=0
  PEERS_JSON=''
  for url in "${PEERS[@]}"; do
    [[ $seen != *" $url "* ]] || continue
    seen+="$url "
    split_url "$url" || continue
    ((++count <= MAX_PEERS)) || break
    yes_no answers "$url"
    PEERS_JSON+="${PEERS_JSON:+,}{\"url\":$(json_string "$url"),\"answers\":$YES_NO}"
  done
}

main() {
  local problems wal=null hostwal=null host zstd
  parameter ClusterName '^[a-z][a-z0-9-]*$'
  parameter Peers '^[]A-Za-z0-9.:/ _%[-]*$'
  read -r -a PEERS <<<"$PARAMETER"
  need curl date df openssl readlink stat systemctl tail timeout tr uname
  PROBLEMS=() KUBERNETES_VERSION=null ENCRYPTION=null ETCD_CA=null CLUSTER_CA=null SA_PUB=null CERTIFICATES_JSON='' ENDPOINT='' CA='' CERTIFICATES=()
  find_arch
  find_static_pods
  [[ ! -d $STATIC_PODS ]] || STATIC_PODS=$(readlink -f -- "$STATIC_PODS")
  ASIDE_DIR=/nonexistent
  describe_kubelet
  describe_journal
  describe_etcd
  describe_member
  describe_api_server
  describe_held
  describe_data
  describe_images
  describe_peers
  yes_no type -P zstd >/dev/null
  zstd=$YES_NO
  problems=$(json_strings "${PROBLEMS[@]}")
  host=$(uname -n)
  if [[ -n $WAL_DIR ]]; then
    wal=$(json_string "$WAL_DIR")
    hostwal=$(json_string "$HOST_WAL_DIR")
  fi
  printf -v LINE '{"ok":true,"hostname":%s,"arch":"%s","kubelet":%s' "$(json_string "$host")" "$ARCH" "$KUBELET_JSON"
  LINE+=",\"etcd\":{\"manifest\":\"$ETCD_STATE\",\"version\":$ETCD_VERSION_JSON,\"running\":$RUNNING,\"memberName\":$(json_string "$MEMBER_NAME"),\"dataDir\":$(json_string "$DATA_DIR")"
  LINE+=",\"hostDataDir\":$(json_string "$HOST_DATA_DIR"),\"walDir\":$wal,\"hostWalDir\":$hostwal,\"quotaBytes\":$QUOTA,\"initialCluster\":[$INITIAL_CLUSTER]"
  LINE+=",\"peerUrls\":$(urls_json "$ETCD_PEERS"),\"clientUrls\":$(urls_json "$ETCD_CLIENTS"),\"image\":$ETCD_IMAGE,\"member\":$MEMBER_JSON}"
  LINE+=",\"apiServer\":$API_SERVER_JSON,\"identity\":{\"etcdCaSha256\":$ETCD_CA,\"clusterCaSha256\":$CLUSTER_CA,\"saPubSha256\":$SA_PUB,\"encryptionConfigSha256\":$ENCRYPTION}"
  LINE+=",\"certificates\":[$CERTIFICATES_JSON],\"data\":$DATA_JSON,\"disk\":$DISK_JSON,\"images\":[$IMAGES_JSON],\"tools\":[$TOOLS_JSON],\"peers\":[$PEERS_JSON],\"held\":[$HELD_JSON]"
  LINE+=",\"journal\":$JOURNAL_JSON,\"zstd\":$zstd,\"problems\":$problems}"
  result "$LINE"
}

main
