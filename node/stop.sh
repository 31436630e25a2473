#!/bin/bash
# Stops etcd, the API server, the controllers and the kubelet of this node, and proves that they are. Other static pods stay.
# Parameters: RestoreId, Hold (none, controllers: they stay out after the restore).
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
  parameter Hold '^(none|controllers)$'
  begin_restore
  require_journal staged
  [[ ${JOURNAL[undone]-} != yes ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "restore $RESTORE_ID was rolled back on this node, expected it to go on; start a new restore"
  [[ $PARAMETER == none ]] || journal hold "$PARAMETER"
  journal stop begun
  adopt kube-controller-manager
  adopt kube-scheduler
  stop_all
  journal quiet-since "$QUIET_SINCE"
  journal stop ended
  seconds_since "$started"
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"killed\":$(json_strings "${KILLED[@]}"),\"seconds\":$SECONDS_SINCE}"
}

main
