#!/bin/bash
# The member's directory in and out: the two renames of swap, and those of rollback. Put behind restore.sh in the documents of these two.
# shellcheck disable=SC2154  # what is used here is defined by what comes before it

# A directory on another path, durable: both parents are on disk before this returns.
rename() {
  mv -T -- "$1" "$2"
  sync -- "${1%/*}" "${2%/*}"
}

# swap_in: the old member to KEPT, the staged one in its place. Each state on disk says what is left to do, so it can be done twice.
swap_in() {
  local member=$HOST_DATA_DIR/member
  if [[ -d $STAGE/member ]]; then
    if [[ -e $member ]]; then
      [[ ! -e $KEPT ]] ||
        refuse "$EXIT_SWAP" swap "$member, $KEPT and $STAGE/member all exist, expected two of them: something wrote a member while all was stopped; find out what, and roll back"
      rename "$member" "$KEPT"
    fi
    rename "$STAGE/member" "$member"
  elif [[ ! -d $member ]] || [[ ! -e $KEPT && ${JOURNAL[had-member]} == yes ]]; then
    # Swapped already, there would be a member and the kept one beside it.
    refuse "$EXIT_SWAP" swap "$STAGE/member does not exist, expected the restored member that preflight staged there; somebody moved it during the restore; roll back"
  fi
  [[ -z $HOST_WAL_DIR ]] || swap_wal_in
}

# swap_out: the restored member back to STAGE, the kept one in its place.
swap_out() {
  local member=$HOST_DATA_DIR/member
  if [[ -e $KEPT || ${JOURNAL[had-member]} == no ]] && [[ -e $member && ! -e $STAGE/member ]]; then
    mkdir -p -- "$STAGE"
    rename "$member" "$STAGE/member"
  fi
  if [[ -e $KEPT ]]; then
    [[ ! -e $member ]] ||
      refuse "$EXIT_SWAP" swap "$member, $KEPT and $STAGE/member all exist, expected two of them: something wrote a member while all was stopped; the old data is $KEPT: move $member away and $KEPT to its place, then start an execution with {\"rollback\": \"$RESTORE_ID\"}"
    rename "$KEPT" "$member"
  fi
  # A rename keeps the inode: only this proves that what is in its place is what was there.
  [[ ${JOURNAL[had-member]} == no || $(stat -c %i -- "$member" 2>/dev/null || :) == "${JOURNAL[member-inode]-}" ]] ||
    refuse "$EXIT_SWAP" swap "$member is not the member that was there before restore $RESTORE_ID, expected it back in its place; is the disk of $HOST_DATA_DIR mounted, and where is $KEPT? nothing was started; then start an execution with {\"rollback\": \"$RESTORE_ID\"}"
  [[ -z $HOST_WAL_DIR ]] || swap_wal_out
}

# A WAL directory of its own may be a mount, so what is in it is moved file by file. While the old files are under way, they are in
# wal.moving; its last rename says that all of them are.
move_wal() {
  local file
  for file in "$1"/*; do
    [[ -f $file && $file != "$1"/wal.* ]] || continue
    mv -T -- "$file" "$2/${file##*/}"
  done
  sync -- "$1" "$2"
}

swap_wal_in() {
  # It stays behind, empty, when all was moved in: without it the volume is another one than that of preflight.
  [[ -d $WAL_STAGE ]] ||
    refuse "$EXIT_SWAP" swap "$WAL_STAGE does not exist, expected the restored WAL that preflight staged there; is the disk of $HOST_WAL_DIR mounted? roll back"
  if [[ ! -e $WAL_KEPT ]]; then
    mkdir -p -- "$HOST_WAL_DIR/wal.moving"
    move_wal "$HOST_WAL_DIR" "$HOST_WAL_DIR/wal.moving"
    chown --reference="$HOST_WAL_DIR" -- "$HOST_WAL_DIR/wal.moving"
    rename "$HOST_WAL_DIR/wal.moving" "$WAL_KEPT"
  fi
  move_wal "$WAL_STAGE" "$HOST_WAL_DIR"
}

swap_wal_out() {
  if [[ -e $WAL_KEPT ]]; then
    mkdir -p -- "$WAL_STAGE"
    move_wal "$HOST_WAL_DIR" "$WAL_STAGE"
    rename "$WAL_KEPT" "$HOST_WAL_DIR/wal.moving"
  fi
  if [[ -e $HOST_WAL_DIR/wal.moving ]]; then
    move_wal "$HOST_WAL_DIR/wal.moving" "$HOST_WAL_DIR"
    rmdir -- "$HOST_WAL_DIR/wal.moving"
  fi
}
