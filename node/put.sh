#!/bin/bash
# Puts a file into S3 through a presigned URL that fits exactly its bytes: what upload.sh and tools.sh share.
# Put between contract.sh and the script when its SSM document is made (lib/script-document.ts). Needs STAGED, a folder of the run's own.
#
# shellcheck disable=SC2034  # what is defined here is used by the script that follows it

# Under 100 KB/s for a minute is a dead connection, not a slow one. All attempts together end before the document's 900 s do.
readonly SLOW_BYTES_PER_SECOND=102400 SLOW_SECONDS=60 UPLOAD_SECONDS=840 ATTEMPTS=3

# What the presigner signs. Not host: S3 takes the bucket from it, whatever the URL says.
readonly PUT_HEADER='(if-none-match|x-amz-[a-z0-9-]+): [A-Za-z0-9:;,=/+._ *()-]+'
readonly PUT_HEADERS="$PUT_HEADER([|]$PUT_HEADER)*"

# begin_puts: the time of this script's puts begins.
begin_puts() {
  now_ms
  STARTED_MS=$NOW_MS
  DEADLINE_MS=$((NOW_MS + UPLOAD_SECONDS * 1000))
}

# The URL and headers go to curl on stdin: what is on a command line can be read by every user of the node.
curl_config() {
  local header
  local -a headers
  IFS='|' read -r -a headers <<<"$3"
  printf 'url = "%s"\n' "$2"
  printf 'upload-file = "%s"\n' "$1"
  for header in "${headers[@]}"; do
    printf 'header = "%s"\n' "$header"
  done
}

# put_once FILE URL HEADERS: one PUT. Sets HTTP_CODE (000 when there is no final answer), CURL_ERROR, S3_CODE and S3_MESSAGE.
put_once() {
  local answer=$STAGED/answer.xml errors=$STAGED/curl.txt body='' status=0
  rm -f -- "$answer"
  now_ms
  HTTP_CODE=$(curl_config "$@" | curl -q --config - --silent --show-error --globoff --connect-timeout 20 \
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

# put FILE URL HEADERS: the same with another try where it may help. Sets ATTEMPT as well. HEADERS: "name: value" joined by "|", all that
# the URL's signature names but host and content-length.
put() {
  for ((ATTEMPT = 1; ; ATTEMPT++)); do
    put_once "$@"
    log "PUT attempt $ATTEMPT: HTTP $HTTP_CODE, S3 code $S3_CODE"
    # 409: another conditional write of the same key is under way. 000 and 5xx: nobody knows; the next try gets 412 if it was stored.
    [[ $HTTP_CODE == 000 || $HTTP_CODE == 40[89] || $HTTP_CODE == 5?? || $S3_CODE == RequestTimeout ]] || return 0
    now_ms
    ((ATTEMPT < ATTEMPTS && NOW_MS < DEADLINE_MS)) || return 0
    sleep $((ATTEMPT * 2))
  done
}

# S3 compares its own clock with the time in the signature; the node's clock plays no part.
refuse_expired() {
  [[ $S3_CODE == ExpiredToken || $S3_MESSAGE == *expired* ]] || return 0
  refuse "$EXIT_UPLOAD_EXPIRED" upload-expired "S3 says '$S3_MESSAGE' ($S3_CODE, HTTP $HTTP_CODE), expected the upload to begin within 15 minutes of signing, while the function's session lasts; find what held the command back and run the backup again"
}

# refuse_put: the refusal that follows from a put that stored nothing.
refuse_put() {
  case $HTTP_CODE in
    412) refuse "$EXIT_UPLOAD_EXISTS" upload-exists "S3 says that the key exists already (HTTP 412), expected it to be new; the backup function compares checksums" ;;
    000) refuse "$EXIT_UPLOAD_FAILED" upload-failed "no answer from S3 in $ATTEMPT attempts (${CURL_ERROR//$'\n'/ }), expected HTTP 200; check the node's route to S3 (gateway endpoint, DNS, proxy)" ;;
    403)
      refuse_expired
      refuse "$EXIT_UPLOAD_REFUSED" upload-refused "S3 refused the upload with $S3_CODE: $S3_MESSAGE (HTTP 403), expected HTTP 200; check the bucket's policy and the key's"
      ;;
    *)
      refuse_expired
      refuse "$EXIT_UPLOAD_REFUSED" upload-refused "S3 refused the upload with $S3_CODE: $S3_MESSAGE (HTTP $HTTP_CODE), expected HTTP 200; see the code in the S3 error list"
      ;;
  esac
}
