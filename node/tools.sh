#!/bin/bash
# Stores tools of the member's image in the bucket's tools/, for the day on which the image is gone.
# Parameters: BackupId, Uploads ("name=sha256=url ..."), Headers (as upload.sh has them, but for the checksum, which is made here).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/put.sh
source "$(dirname "${BASH_SOURCE[0]}")/put.sh"

# store NAME SHA256 URL: puts one tool whose bytes are still those that the backup saw. S3 holds them against the hash once more.
store() {
  local checksum
  image_tool "$1"
  [[ -n $IMAGE_TOOL ]] ||
    refuse "$EXIT_NO_TOOL" no-tool "no $1 in the image of the running etcd (pid $ETCD_PID), expected the one that the backup saw a moment ago; the next backup sends what is there then"
  hash_of "$IMAGE_TOOL"
  [[ $HASH_OF == "$2" ]] ||
    refuse "$EXIT_TOOL_CHANGED" tool-changed "$1 of the running etcd (pid $ETCD_PID) has SHA-256 $HASH_OF, expected $2 as the backup saw a moment ago; nothing was sent; the next backup tells what is there then"
  # In base64, as S3 wants it.
  checksum=$(openssl dgst -sha256 -binary "$IMAGE_TOOL" | openssl base64 -A)
  put "$IMAGE_TOOL" "$3" "$HEADERS|x-amz-checksum-sha256: $checksum"
  case $HTTP_CODE in
    200) STORED+=("$1") ;;
    # The key has the hash in its name: what is there is the same.
    412) EXISTED+=("$1") ;;
    *) refuse_put ;;
  esac
}

main() {
  local entry rest
  local -a uploads
  begin_puts
  parameter BackupId '^[0-9]{8}T[0-9]{6}Z$'
  BACKUP_ID=$PARAMETER
  parameter Uploads '^[]A-Za-z0-9.:/?&=%~_ +[-]+$'
  read -r -a uploads <<<"$PARAMETER"
  parameter Headers "^$PUT_HEADERS\$"
  HEADERS=$PARAMETER
  for entry in "${uploads[@]}"; do
    [[ $entry =~ ^(etcd|etcdctl|etcdutl)=[0-9a-f]{64}=https?:// ]] ||
      refuse "$EXIT_BAD_PARAMETER" bad-parameter "entry '${entry:0:80}' of parameter Uploads, expected name=sha256=url of etcd, etcdctl or etcdutl; nothing was sent"
  done
  begin cat curl date flock head mkdir openssl readlink sleep stat tr
  STAGED=$STAGING_DIR/tools
  mkdir -p -- "$STAGED"
  STORED=() EXISTED=()
  find_etcd
  for entry in "${uploads[@]}"; do
    rest=${entry#*=}
    store "${entry%%=*}" "${rest%%=*}" "${rest#*=}"
  done
  seconds_since "$STARTED_MS"
  result "{\"ok\":true,\"backupId\":\"$BACKUP_ID\",\"stored\":$(json_strings "${STORED[@]}"),\"existed\":$(json_strings "${EXISTED[@]}"),\"seconds\":$SECONDS_SINCE}"
}

main
