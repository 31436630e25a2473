#!/bin/bash
# What every script on a node keeps to. It is put in front of each script when its SSM document is made (lib/script-document.ts).
#
#   stdout   exactly one line of JSON, the result; everything else goes to stderr and to the journal
#   exit     0, or one code from the table below; a child's exit code never becomes ours, because SSM reads
#            137 as timeout, 168 as success, 169 as stop and 194 as a request to reboot the node
#   values   arrive as environment (SSM_<name>), are checked here once more, and never become code
#   staging  lives in one directory of root's, under one lock; the next run removes what a SIGKILL left
#
# shellcheck disable=SC2034  # what is defined here is used by the script that follows it
#
# Needs bash 4.4, coreutils, util-linux, gzip, curl and openssl: no jq, awk, sed or grep, which not every image has.

set -Eeuo pipefail
umask 077
export LC_ALL=C PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
unset BASH_ENV ENV CDPATH GLOBIGNORE
# The result line has a descriptor of its own, so that nothing else can reach stdout.
exec 3>&1 1>&2

# One meaning each. docs/exit-codes.md has the sentences, lambda/shared/exit-codes.ts the same numbers; a test compares all three.
readonly EXIT_NOT_ROOT=10 EXIT_BAD_PARAMETER=11 EXIT_ALREADY_RUNNING=12 EXIT_RESTORE_RUNNING=13 EXIT_MISSING_COMMAND=14
readonly EXIT_NO_ETCD=20 EXIT_NOT_AS_MANIFEST=21 EXIT_CONFIG_FILE=22 EXIT_NO_ENDPOINT=23
readonly EXIT_CERTIFICATE_MISSING=30 EXIT_CERTIFICATE_UNREADABLE=31 EXIT_CERTIFICATE_NO_CLIENT_AUTH=32 EXIT_CERTIFICATE_EXPIRED=33
readonly EXIT_AUTH=40 EXIT_NO_QUORUM=41 EXIT_LEARNER=42 EXIT_FEWER_MEMBERS=43 EXIT_CORRUPT=44 EXIT_WRONG_MEMBER=45
readonly EXIT_DISK=50 EXIT_NO_TOOL=51 EXIT_TOOL_CHANGED=52
readonly EXIT_SAVE_FAILED=60 EXIT_TRAILER=61 EXIT_STATUS=62 EXIT_COMPRESS_FAILED=63 EXIT_TOO_LARGE=64
readonly EXIT_UPLOAD_REFUSED=70 EXIT_UPLOAD_EXPIRED=71 EXIT_UPLOAD_EXISTS=72 EXIT_UPLOAD_FAILED=73 EXIT_NOTHING_STAGED=74
readonly EXIT_OTHER_RESTORE=80 EXIT_NOT_PREPARED=81 EXIT_SEAL=82 EXIT_DOWNLOAD=83 EXIT_SNAPSHOT_BYTES=84 EXIT_RESTORE_FAILED=85 EXIT_LAYOUT=86
readonly EXIT_NOT_STOPPED=87 EXIT_SWAP=88 EXIT_NOT_STARTED=89 EXIT_NOT_HEALTHY=90 EXIT_ALREADY_SERVED=91 EXIT_NOT_UNDONE=92
readonly EXIT_UNEXPECTED=99

# Never /tmp: on Amazon Linux 2023 that is memory.
readonly HOME_DIR=/var/lib/etcd-backup
readonly STAGING_DIR=$HOME_DIR/staging
readonly RESTORE_JOURNAL=$HOME_DIR/restore/journal

# State of the run. Set here, because a variable of the same name in the environment must not become it.
HAVE_LOCK=no STAGED='' SAID=no ALLOWED_RESTORE='' JOURNAL_ID=''

log() {
  printf '%s\n' "$*" >&2
  # A node without a journal still has stderr, which SSM keeps.
  logger -t etcd-backup -- "$*" 2>/dev/null || :
}

# json_string TEXT: TEXT as a JSON string. Bytes outside printable ASCII become '?', so the line is always valid UTF-8.
json_string() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  text=${text//[^ -~]/?}
  printf '"%s"' "$text"
}

# json_strings TEXT...: a JSON array of strings.
json_strings() {
  local text separator=''
  printf '['
  for text in "$@"; do
    printf '%s' "$separator"
    json_string "$text"
    separator=,
  done
  printf ']'
}

# result LINE: the one line on stdout.
result() {
  printf '%s\n' "$1" >&3
  SAID=yes
}

# refuse CODE NAME MESSAGE: the failure's result line, and out. The message says what was got, what was expected and what to do.
refuse() {
  # SSM keeps 24,000 characters; what others wrote into a message must not push its own words out.
  local message=${3:0:2000}
  log "$2: $message"
  result "{\"ok\":false,\"code\":$1,\"error\":$(json_string "$2"),\"message\":$(json_string "$message")}"
  exit "$1"
}

# unexpected LINE COMMAND STATUS: a command failed where no failure was foreseen.
unexpected() {
  # In a subshell the failing substitution makes the parent fail too, and the parent speaks.
  ((BASH_SUBSHELL == 0)) || exit "$EXIT_UNEXPECTED"
  refuse "$EXIT_UNEXPECTED" unexpected "command '$2' at line $1 of the script ended with status $3; stderr of this command has its own words"
}

# Whatever ends the script: its children end, what it staged goes, and it has said one line. Bash leaves without the ERR trap on an
# unset variable or a bad expression, so the line is made sure of here.
on_exit() {
  local status=$? job
  trap - ERR
  set +e
  for job in $(jobs -p); do
    # It may have ended by itself.
    kill "$job" 2>/dev/null
  done
  wait
  # What cannot be removed now, the next run must remove before it begins, and says so when it cannot either.
  if [[ $HAVE_LOCK == yes && -n $STAGED ]]; then
    rm -rf -- "$STAGED"
    # Not empty while another backup's snapshot waits there.
    rmdir -- "$STAGING_DIR" 2>/dev/null
  fi
  if [[ $SAID == no ]]; then
    log "the script ended with status $status before it had a result"
    result "{\"ok\":false,\"code\":$EXIT_UNEXPECTED,\"error\":\"unexpected\",\"message\":\"the script ended with status $status before it had a result, expected one line; stderr of this command has bash's own words\"}"
    status=$EXIT_UNEXPECTED
  fi
  exit "$status"
}

trap 'unexpected "$LINENO" "$BASH_COMMAND" "$?"' ERR
trap on_exit EXIT
trap 'refuse "$EXIT_UNEXPECTED" unexpected "stopped by a signal; run the backup again"' HUP INT TERM

# parameter NAME PATTERN: sets PARAMETER to the value of SSM_NAME, which must match PATTERN as a whole.
parameter() {
  local variable=SSM_$1
  if [[ -z ${!variable+set} ]]; then
    refuse "$EXIT_BAD_PARAMETER" bad-parameter "parameter $1 did not arrive in the environment; SSM agent 3.3.2746.0 or newer is expected, so update the agent"
  fi
  PARAMETER=${!variable}
  if ! [[ $PARAMETER =~ $2 ]]; then
    refuse "$EXIT_BAD_PARAMETER" bad-parameter "parameter $1 is '${PARAMETER:0:80}', expected to match $2; nothing was run"
  fi
}

# need COMMAND...: root, and the commands that the script needs.
need() {
  local command
  ((EUID == 0)) || refuse "$EXIT_NOT_ROOT" not-root "running as uid $EUID, expected root; run through SSM Run Command, which runs as root"
  for command in "$@"; do
    type -P "$command" >/dev/null ||
      refuse "$EXIT_MISSING_COMMAND" missing-command "'$command' was not found in $PATH, expected it on every control-plane node; install its package"
  done
}

# lock_node SECONDS: the one lock of this node, waited for so long. From here on STAGED is removed at the end.
lock_node() {
  install -d -m 0700 -o root -g root -- "$HOME_DIR"
  exec 9>>"$HOME_DIR/lock"
  # Children inherit the lock on purpose: while one of them still writes into staging, the next run must stay out.
  flock -w "$1" 9 ||
    refuse "$EXIT_ALREADY_RUNNING" already-running "another snapshot, upload or restore held $HOME_DIR/lock on this node for $1 s, expected it free; wait until it ends"
  HAVE_LOCK=yes
}

# read_restore_id: sets JOURNAL_ID to the restore that is under way on this node, or to ''.
read_restore_id() {
  local line=''
  JOURNAL_ID=''
  [[ -e $RESTORE_JOURNAL ]] || return 0
  IFS= read -r line <"$RESTORE_JOURNAL" || :
  [[ ! $line =~ ^restore\ ([0-9]{8}T[0-9]{6}Z)$ ]] || JOURNAL_ID=${BASH_REMATCH[1]}
  [[ -n $JOURNAL_ID ]] ||
    refuse "$EXIT_UNEXPECTED" unexpected "$RESTORE_JOURNAL begins with '${line:0:100}', expected 'restore' and its id; find out who wrote it, and move it away when no restore is under way"
}

# begin COMMAND...: what a backup begins with: need, the lock, and no restore under way but the one in ALLOWED_RESTORE.
begin() {
  need "$@"
  lock_node 0
  read_restore_id
  if [[ -n $JOURNAL_ID && $JOURNAL_ID != "$ALLOWED_RESTORE" ]]; then
    refuse "$EXIT_RESTORE_RUNNING" restore-running "restore $JOURNAL_ID is under way on this node ($RESTORE_JOURNAL exists), expected none; let it finish or roll it back"
  fi
}

# now_ms: sets NOW_MS to milliseconds since boot. The time of day may be set back while we run.
now_ms() {
  local up
  read -r up _ </proc/uptime
  NOW_MS=$((10#${up/./} * 10))
}

# seconds_since MS: sets SECONDS_SINCE to the seconds since NOW_MS was MS, with milliseconds.
seconds_since() {
  local elapsed
  now_ms
  elapsed=$((NOW_MS - $1))
  printf -v SECONDS_SINCE '%d.%03d' $((elapsed / 1000)) $((elapsed % 1000))
}
