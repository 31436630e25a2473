#!/bin/bash
# Stores the staged snapshot in S3 through a presigned URL that fits exactly these bytes, once.
# Parameters: BackupId, Url, Headers ("name: value" joined by "|", all that the URL's signature names but host and content-length),
# RestoreId ('', or the restore that is about to replace what was saved).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/put.sh
source "$(dirname "${BASH_SOURCE[0]}")/put.sh"

find_packed() {
  local file
  PACKED=''
  for file in "$STAGED/snapshot.db.zst" "$STAGED/snapshot.db.gz"; do
    [[ ! -f $file || -L $file ]] || PACKED=$file
  done
  [[ -n $PACKED ]] ||
    refuse "$EXIT_NOTHING_STAGED" nothing-staged "no snapshot of backup $BACKUP_ID in $STAGING_DIR, expected the one that the snapshot script left; run the backup again"
}

main() {
  local url headers
  begin_puts
  parameter BackupId '^[0-9]{8}T[0-9]{6}Z$'
  BACKUP_ID=$PARAMETER
  parameter Url '^https?://[]A-Za-z0-9.:/?&=%~_+[-]+$'
  url=$PARAMETER
  parameter Headers "^$PUT_HEADERS\$"
  headers=$PARAMETER
  parameter RestoreId '^([0-9]{8}T[0-9]{6}Z)?$'
  ALLOWED_RESTORE=$PARAMETER
  begin curl date flock head sleep stat tr
  STAGED=$STAGING_DIR/$BACKUP_ID
  find_packed
  put "$PACKED" "$url" "$headers"
  [[ $HTTP_CODE == 200 ]] || refuse_put
  local size
  size=$(stat -c %s -- "$PACKED")
  seconds_since "$STARTED_MS"
  result "{\"ok\":true,\"backupId\":\"$BACKUP_ID\",\"compressedSize\":$size,\"seconds\":$SECONDS_SINCE,\"attempts\":$ATTEMPT}"
}

main
