#!/bin/bash
# Ends a restore on this node: removes what it staged, and the journal that keeps backups away. What it kept of the old data stays.
# Parameters: RestoreId, Outcome (failed, restored, held).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/restore.sh
source "$(dirname "${BASH_SOURCE[0]}")/restore.sh"

main() {
  local outcome path kept='' component
  parameter RestoreId '^[0-9]{8}T[0-9]{6}Z$'
  RESTORE_ID=$PARAMETER
  parameter Outcome '^(failed|restored|held)$'
  outcome=$PARAMETER
  begin_restore
  # As rollback.sh: whoever ends a restore later need not know that it holds them back.
  [[ $outcome != restored || ${JOURNAL[hold]-} != controllers ]] || outcome=held
  rm -rf -- "${KEY_DIR:?}" "${RESTORE_DIR:?}/$RESTORE_ID" "$RESTORE_JOURNAL.next"
  if [[ -n $JOURNAL_ID ]]; then
    if [[ $outcome == failed && -n ${JOURNAL[stop]-} && ${JOURNAL[undone]-} != yes ]]; then
      refuse "$EXIT_NOT_UNDONE" not-undone "restore $RESTORE_ID stopped this node and is not undone, expected its rollback first; start an execution with {\"rollback\": \"$RESTORE_ID\"}"
    fi
    if [[ $outcome != held ]]; then
      for component in "${COMPONENTS[@]}"; do
        [[ ! -e $ASIDE_DIR/$component.yaml ]] ||
          refuse "$EXIT_NOT_STARTED" not-started "$ASIDE_DIR/$component.yaml is still there, expected it back in $STATIC_PODS; move it back"
      done
    fi
    # Killed before it knew the data directory, preflight has staged nothing.
    if [[ -n $HOST_DATA_DIR ]]; then
      rm -rf -- "${STAGE:?}"
      [[ -z $HOST_WAL_DIR ]] || rm -rf -- "${WAL_STAGE:?}"
      for path in "$HOST_DATA_DIR"/member.before-*; do
        [[ ! $path =~ /member\.before-([0-9]{8}T[0-9]{6}Z)$ || ! -d $path ]] || kept+="${kept:+,}\"${BASH_REMATCH[1]}\""
      done
    fi
    # What an earlier restore held was this one's.
    for component in "${COMPONENTS[@]}"; do
      path=${STATIC_PODS%/*}/manifests.before-${JOURNAL[held-$component]-none}
      [[ ! -d $path ]] || rmdir -- "$path" 2>/dev/null || log "$path is not empty and stays"
    done
    # Held controllers wait there for whoever lets them go.
    if [[ -d $ASIDE_DIR && $outcome != held ]]; then
      # What else somebody has put there is theirs.
      rmdir -- "$ASIDE_DIR" 2>/dev/null || log "$ASIDE_DIR is not empty and stays"
    fi
    sync -- "$RESTORE_DIR"
    rm -f -- "$RESTORE_JOURNAL"
    sync -- "$RESTORE_DIR"
  fi
  result "{\"ok\":true,\"restoreId\":\"$RESTORE_ID\",\"kept\":[$kept]}"
}

main
