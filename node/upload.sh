#!/bin/bash
# Stores the staged snapshot in S3 through a presigned URL that fits exactly these bytes, once.
# Parameters: BackupId, Url, Headers ("name: value" joined by "|", all that the URL's signature names but host and content-length).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"

# Under 100 KB/s for a minute is a dead connection, not a slow one. All attempts together end before the document's 900 s do.
readonly SLOW_BYTES_PER_SECOND=102400 SLOW_SECONDS=60 UPLOAD_SECONDS=840 ATTEMPTS=3

find_packed() {
  local file
  PACKED=''
  for file in "$STAGED/snapshot.db.zst" "$STAGED/snapshot.db.gz"; do
    [[ ! -f $file || -L $file ]] || PACKED=$file
  done
  [[ -n $PACKED ]] ||
    refuse "$EXIT_NOTHING_STAGED" nothing-staged "no snapshot of backup $BACKUP_ID in $STAGING_DIR, expected the one that the snapshot script left; run the backup again"
}

# The URL and headers go to curl on stdin: what is on a command line can be read by every user of the node.
curl_config() {
  local header
  local -a headers
  IFS='|' read -r -a headers <<<"$HEADERS"
  printf 'url = "%s"\n' "$URL"
  printf 'upload-file = "%s"\n' "$PACKED"
  for header in "${headers[@]}"; do
    printf 'header = "%s"\n' "$header"
  done
}

# put: one PUT. Sets HTTP_CODE (000 when there is no final answer), CURL_ERROR, S3_CODE and S3_MESSAGE.
put() {
  local answer=$STAGED/answer.xml errors=$STAGED/curl.txt body='' status=0
  rm -f -- "$answer"
  now_ms
  HTTP_CODE=$(curl_config | curl -q --config - --silent --show-error --globoff --connect-timeout 20 \
    --speed-limit "$SLOW_BYTES_PER_SECOND" --speed-time "$SLOW_SECONDS" --max-time "$(((DEADLINE_MS - NOW_MS) / 1000 + 1))" \
    --output "$answer" --write-out '%{http_code}' 2>"$errors") || status=$?
  # 100 is what curl last heard when a connection breaks after "100 Continue"; a success that curl does not stand behind is none.
  [[ $HTTP_CODE =~ ^[2-5][0-9][0-9]$ ]] || HTTP_CODE=000
  [[ $HTTP_CODE != 2?? || $status == 0 ]] || HTTP_CODE=000
  CURL_ERROR=$(head -c 300 -- "$errors")
  S3_CODE=none S3_MESSAGE=none
  [[ ! -s $answer ]] || body=$(head -c 4000 -- "$answer" | tr -d '\000')
  [[ ! $body =~ \<Code\>([A-Za-z0-9.]+)\</Code\> ]] || S3_CODE=${BASH_REMATCH[1]}
  [[ ! $body =~ \<Message\>([^<]*)\</Message\> ]] || S3_MESSAGE=${BASH_REMATCH[1]}
}

# S3 compares its own clock with the time in the signature; the node's clock plays no part.
refuse_expired() {
  [[ $S3_CODE == ExpiredToken || $S3_MESSAGE == *expired* ]] || return 0
  refuse "$EXIT_UPLOAD_EXPIRED" upload-expired "S3 says '$S3_MESSAGE' ($S3_CODE, HTTP $HTTP_CODE), expected the upload to begin within 15 minutes of signing, while the function's session lasts; find what held the command back and run the backup again"
}

main() {
  local started attempt
  now_ms
  started=$NOW_MS
  DEADLINE_MS=$((started + UPLOAD_SECONDS * 1000))
  parameter BackupId '^[0-9]{8}T[0-9]{6}Z$'
  BACKUP_ID=$PARAMETER
  parameter Url '^https?://[]A-Za-z0-9.:/?&=%~_+[-]+$'
  URL=$PARAMETER
  parameter Headers '^[]A-Za-z0-9:;,=/+._| *()[-]+$'
  HEADERS=$PARAMETER
  begin curl date flock head sleep stat tr
  STAGED=$STAGING_DIR/$BACKUP_ID
  find_packed
  for ((attempt = 1; ; attempt++)); do
    put
    log "PUT attempt $attempt: HTTP $HTTP_CODE, S3 code $S3_CODE"
    # 409: another conditional write of the same key is under way. 000 and 5xx: nobody knows; the next try gets 412 if it was stored.
    [[ $HTTP_CODE == 000 || $HTTP_CODE == 40[89] || $HTTP_CODE == 5?? || $S3_CODE == RequestTimeout ]] || break
    now_ms
    ((attempt < ATTEMPTS && NOW_MS < DEADLINE_MS)) || break
    sleep $((attempt * 2))
  done
  case $HTTP_CODE in
    200) ;;
    412) refuse "$EXIT_UPLOAD_EXISTS" upload-exists "S3 says that the key exists already (HTTP 412), expected it to be new; the backup function compares checksums" ;;
    000) refuse "$EXIT_UPLOAD_FAILED" upload-failed "no answer from S3 in $attempt attempts (${CURL_ERROR//$'\n'/ }), expected HTTP 200; check the node's route to S3 (gateway endpoint, DNS, proxy)" ;;
    403)
      refuse_expired
      refuse "$EXIT_UPLOAD_REFUSED" upload-refused "S3 refused the upload with $S3_CODE: $S3_MESSAGE (HTTP 403), expected HTTP 200; check the bucket's policy and the key's"
      ;;
    *)
      refuse_expired
      refuse "$EXIT_UPLOAD_REFUSED" upload-refused "S3 refused the upload with $S3_CODE: $S3_MESSAGE (HTTP $HTTP_CODE), expected HTTP 200; see the code in the S3 error list"
      ;;
  esac
  local size
  size=$(stat -c %s -- "$PACKED")
  seconds_since "$started"
  result "{\"ok\":true,\"backupId\":\"$BACKUP_ID\",\"compressedSize\":$size,\"seconds\":$SECONDS_SINCE,\"attempts\":$attempt}"
}

main
