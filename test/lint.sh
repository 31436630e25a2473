#!/bin/bash
# Static checks. Each one prints `ok <name>` or `FAILED <name>`; a missing tool is a failure, never a skip.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
passed=0 failed=0

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'ok      %s\n' "$name"
    passed=$((passed + 1))
  else
    printf '%s\nFAILED  %s\n' "$output" "$name"
    failed=$((failed + 1))
  fi
}

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
check 'types (tsc)' tsc --noEmit
check 'lint (eslint)' eslint --max-warnings 0 .
check 'format (prettier)' prettier --check .
check 'bash (shellcheck)' shellcheck -x "${scripts[@]}"
check 'go vet (lab)' go -C lab/go/lab vet ./...
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
