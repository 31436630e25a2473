#!/bin/bash
# Stops etcd, the API server, the controllers and the kubelet of this node, and proves that they are. Other static pods stay.
# Parameters: RestoreId.
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

main() {
  local started
  now_ms
  started=$NOW_MS
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  begin_restore
  require_journal staged
  [[ ${JOURNAL[undone]-} != yes ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "restore $RESTORE_ID was rolled back on this node, expected it to go on; start a new restore"
  journal stop begun
  stop_all
  journal stop ended
  seconds_since "$started"
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"killed\":$(json_strings "${KILLED[@]}"),\"seconds\":$SECONDS_SINCE}"
}

main
