#!/bin/bash
# Waits until what a step started is what it has to be, and says what it is.
# Parameters: RestoreId, Component (etcd, cluster, before), WaitSeconds, Revision (for etcd).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

# How long a lease of an API server that is gone may take to end: its 15 s begin anew when etcd has a leader.
readonly LEASE_SECONDS=30

# not_yet SENTENCE: remembers why, and whether there is still time.
not_yet() {
  WHY=$1
  now_ms
  ((NOW_MS < DEADLINE_MS)) || return 1
  sleep 0.2
}

# The restored member: its revision exactly, a leader, the compaction that was asked for, no alarm, and a write.
check_etcd() {
  local lease alarm deactivated='' alarms=''
  speak_with_etcd
  ((${#NO_CERTIFICATE[@]} == 0)) || refuse "${NO_CERTIFICATE[@]}"
  while :; do
    if ! ask_status; then
      not_yet "etcd does not answer at $HTTP_ENDPOINT: ${ANSWER:0:300}" && continue
    elif [[ $STATUS_LEADER == 0 ]]; then
      not_yet "this member ($STATUS_MEMBER) knows no leader" && continue
    elif [[ $STATUS_REVISION != "$REVISION" ]]; then
      refuse "$EXIT_NOT_HEALTHY" not-healthy "the restored member is at revision $STATUS_REVISION, expected $REVISION exactly: something wrote to it, or it is not the restored data"
    elif ! ask_members true; then
      not_yet "the member list gets no answer that a quorum stands behind: ${ANSWER:0:300}" && continue
    elif ! ask_alarms; then
      not_yet "the alarm list gets no answer: ${ANSWER:0:300}" && continue
    else
      # The alarms of a snapshot are of members that are no more.
      alarms=''
      for alarm in "${ALARMS[@]}"; do
        if [[ " ${MEMBER_IDS[*]} " == *" ${alarm%%:*} "* ]]; then
          alarms+="${alarms:+,}{\"memberId\":\"${alarm%%:*}\",\"alarm\":\"${alarm#*:}\"}"
          continue
        fi
        printf -v ALARM_MEMBER '%u' "0x${alarm%%:*}"
        ask_gateway /v3/maintenance/alarm "{\"action\":\"DEACTIVATE\",\"memberID\":\"$ALARM_MEMBER\",\"alarm\":\"${alarm#*:}\"}" ||
          refuse "$EXIT_NOT_HEALTHY" not-healthy "the alarm ${alarm#*:} of member ${alarm%%:*}, which is no more, cannot be disarmed: ${ANSWER:0:300}; expected it to go"
        deactivated+="${deactivated:+,}\"$alarm\""
      done
      if ! ask_gateway /v3/maintenance/hashkv "{\"revision\":\"$REVISION\"}"; then
        not_yet "hashkv at revision $REVISION gets no answer: ${ANSWER:0:300}" && continue
      else
        json_number compact_revision
        # The compaction that the restore asked for runs after the start, on each member by itself.
        if [[ $FIELD != "$REVISION" ]]; then
          not_yet "this member is compacted at ${FIELD:-no revision}, expected $REVISION" && continue
        else
          COMPACTED=$FIELD
          json_number hash
          HASH_KV=$FIELD
          if ! ask_gateway /v3/lease/grant '{"TTL":"30"}'; then
            not_yet "a lease is not granted: ${ANSWER:0:300}" && continue
          else
            json_number ID
            lease=$FIELD
            ask_gateway /v3/lease/revoke "{\"ID\":\"$lease\"}" ||
              refuse "$EXIT_NOT_HEALTHY" not-healthy "a lease was granted and cannot be revoked: ${ANSWER:0:300}; expected both, as every API server needs them"
            break
          fi
        fi
      fi
    fi
    refuse "$EXIT_NOT_HEALTHY" not-healthy "after $WAIT_SECONDS s: $WHY; expected a member of the restored cluster that takes writes; look at the container log of etcd"
  done
  # No API server is started anywhere before every node has this.
  journal checked yes
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"member\":{\"id\":\"$STATUS_MEMBER\",\"clusterId\":\"$STATUS_CLUSTER\",\"revision\":$STATUS_REVISION,\"compactRevision\":$COMPACTED,\"hashKv\":$HASH_KV,\"hashRevision\":$REVISION,\"leaderId\":\"$STATUS_LEADER\",\"dbSize\":$STATUS_SIZE,\"isLearner\":$STATUS_LEARNER,\"members\":[$MEMBERS_JSON],\"alarms\":[$alarms]},\"wrote\":true,\"disarmed\":[$deactivated]}"
}

check_api_server() {
  while ! api_server_ready; do
    not_yet "the API server at ${API_URL:-no address} does not say that it is ready: ${ANSWER:0:300}" ||
      refuse "$EXIT_NOT_HEALTHY" not-healthy "after $WAIT_SECONDS s: $WHY; expected 'ok'; look at the container log of kube-apiserver"
  done
}

# The whole node: what has a manifest runs, and the API server is ready.
check_cluster() {
  local component running='' missing
  # A node may have no API server.
  manifest_of kube-apiserver
  [[ -z $COMPONENT_MANIFEST ]] || check_api_server
  while :; do
    running='' missing=''
    for component in "${COMPONENTS[@]}"; do
      [[ -f $STATIC_PODS/$component.yaml ]] || continue
      component_pids "$component"
      if ((${#PIDS[@]} > 0)); then
        running+="${running:+,}\"$component\""
      else
        missing+=" $component"
      fi
    done
    [[ -n $missing ]] || break
    not_yet "there is no process of$missing" ||
      refuse "$EXIT_NOT_HEALTHY" not-healthy "after $WAIT_SECONDS s: $WHY; expected what has a manifest to run; look at 'crictl ps -a'"
  done
  speak_with_etcd
  find_advertised
  await_leases
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"ready\":true,\"running\":[$running],\"advertised\":$(json_strings "${ADVERTISED[@]}"),\"masterleases\":$(json_strings "${LEASES[@]}")}"
}

# find_advertised: sets ADVERTISED to the addresses that this node's API server may announce itself by; none without one.
find_advertised() {
  local url
  local -a urls
  ADVERTISED=()
  manifest_of kube-apiserver
  [[ -n $COMPONENT_MANIFEST ]] || return 0
  manifest_arguments "$COMPONENT_MANIFEST"
  flag advertise-address '' "${ARGUMENTS[@]}"
  if [[ -n $FLAG ]]; then
    ADVERTISED=("$FLAG")
    return 0
  fi
  # It takes the node's own address then, as etcd has it.
  etcd_setting initial-advertise-peer-urls ''
  IFS=, read -r -a urls <<<"$FLAG"
  for url in "${urls[@]}"; do
    ! split_url "$url" || ADVERTISED+=("$URL_HOST")
  done
}

# read_leases: sets LEASES to the addresses by which API servers are announced to clients of the Service kubernetes.
read_leases() {
  local rest key
  # /registry/masterleases/ to /registry/masterleases0
  ask_gateway /v3/kv/range '{"key":"L3JlZ2lzdHJ5L21hc3RlcmxlYXNlcy8=","range_end":"L3JlZ2lzdHJ5L21hc3RlcmxlYXNlczA=","keys_only":true,"limit":"50"}' || return 1
  LEASES=()
  rest=$ANSWER
  while [[ $rest =~ \"key\":\"([A-Za-z0-9+/=]+)\"(.*)$ ]]; do
    rest=${BASH_REMATCH[2]}
    key=$(printf '%s' "${BASH_REMATCH[1]}" | openssl base64 -d -A)
    LEASES+=("${key##*/}")
  done
}

# await_leases: those of nodes that are gone were in the backup, and end by themselves: 15 s after etcd's start. Nodes that are there announce the
# address that their member has, with kubeadm; with another one only time is lost.
await_leases() {
  local until lease peers url known stale
  local -a urls
  known=" ${ADVERTISED[*]} " LEASES=()
  if ask_members false; then
    for peers in "${MEMBER_PEERS[@]}"; do
      IFS=, read -r -a urls <<<"$peers"
      for url in "${urls[@]}"; do
        ! split_url "$url" || known+="$URL_HOST "
      done
    done
  fi
  now_ms
  until=$((NOW_MS + LEASE_SECONDS * 1000))
  while :; do
    stale=no
    read_leases || stale=yes
    for lease in "${LEASES[@]}"; do
      [[ $known == *" $lease "* ]] || stale=yes
    done
    now_ms
    [[ $stale == yes ]] || return 0
    ((NOW_MS < until)) || return 0
    sleep 1
  done
}

# After a rollback: what was healthy before is healthy again, and no more is asked for.
check_before() {
  local healthy=''
  if [[ ${JOURNAL[left-stopped]-} == yes ]]; then
    # It has no data, so that nothing of it may run.
    result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"healthy\":[],\"leftStopped\":true}"
    return 0
  fi
  if [[ -n $JOURNAL_ID ]]; then
    case ${JOURNAL[was-etcd]-no} in
      no) ;;
      *)
        speak_with_etcd
        while ! { ask_status && { [[ ${JOURNAL[was-etcd]} != quorum ]] || can_read; }; }; do
          not_yet "etcd does not answer as it did before: ${ANSWER:0:300}" ||
            refuse "$EXIT_NOT_HEALTHY" not-healthy "after $WAIT_SECONDS s: $WHY; expected the member on its old data; look at the container log of etcd; the old data lies where it always was"
        done
        healthy='"etcd"'
        ;;
    esac
    if [[ ${JOURNAL[was-api-server]-no} == yes ]]; then
      check_api_server
      healthy+="${healthy:+,}\"kube-apiserver\""
    fi
    if [[ ${JOURNAL[was-kubelet]-no} == yes ]]; then
      kubelet_active ||
        refuse "$EXIT_NOT_HEALTHY" not-healthy "the kubelet does not run, expected it to, as before the restore; look at 'systemctl status kubelet'"
      healthy+="${healthy:+,}\"kubelet\""
    fi
  fi
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"healthy\":[$healthy]}"
}

main() {
  local component
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Component '^(etcd|cluster|before)$'
  component=$PARAMETER
  parameter WaitSeconds '^[0-9]{1,3}$'
  WAIT_SECONDS=$((10#$PARAMETER))
  parameter Revision '^[0-9]{0,16}$'
  REVISION=$((10#${PARAMETER:-0}))
  begin_restore
  now_ms
  DEADLINE_MS=$((NOW_MS + WAIT_SECONDS * 1000)) WHY=''
  [[ $component == before ]] || require_journal start
  case $component in
    etcd) check_etcd ;;
    cluster) check_cluster ;;
    before) check_before ;;
  esac
}

main
