#!/bin/bash
# Puts the restored member in the place of the old one, which is kept beside it: two renames, whatever the size.
# Parameters: RestoreId.
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"
# shellcheck source=node/member.sh
source "$(dirname "${BASH_SOURCE[0]}")/member.sh"

main() {
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  begin_restore
  require_journal staged
  require_journal stop
  [[ ${JOURNAL[undone]-} != yes ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "restore $RESTORE_ID was rolled back on this node, expected it to go on; start a new restore"
  [[ ${JOURNAL[stop]} == ended ]] ||
    refuse "$EXIT_NOT_PREPARED" not-prepared "restore $RESTORE_ID has not stopped this node to the end, expected it to be; roll back: start an execution with {\"rollback\": \"$RESTORE_ID\"}"
  if [[ -z ${JOURNAL[swap]-} ]]; then
    # As it is now that all is stopped: it may have been lost since preflight.
    read_layout
    etcd_ports
    # Most of that time has gone by on the way here.
    QUIET_SINCE=${JOURNAL[quiet-since]-}
    await_quiet "$QUIET_MS"
    if [[ -d $HOST_DATA_DIR/member ]]; then
      journal member-inode "$(stat -c %i -- "$HOST_DATA_DIR/member")"
      journal had-member yes
    else
      journal had-member no
    fi
  fi
  journal swap begun
  swap_in
  journal swap ended
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"kept\":$([[ -d $KEPT ]] && echo true || echo false)}"
}

main
