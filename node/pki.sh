#!/bin/bash
# Bundles what a control plane is rebuilt from beside etcd's data: /etc/kubernetes/pki, the static pods' manifests, kubeadm's and the kubelet's
# configuration, and every file of the host that a manifest names. Without a Url it says what the bundle's bytes are; with one it makes the same
# bytes again and stores them: private keys lie nowhere on the node while nobody works on them.
# Parameters: BundleId, Sha256 ('', or what the bundle's bytes have to be), Url and Headers ('', or as upload.sh has them).
# shellcheck source=node/contract.sh
source "$(dirname "${BASH_SOURCE[0]}")/contract.sh"
# shellcheck source=node/etcd.sh
source "$(dirname "${BASH_SOURCE[0]}")/etcd.sh"
# shellcheck source=node/put.sh
source "$(dirname "${BASH_SOURCE[0]}")/put.sh"

readonly KUBERNETES_DIR=/etc/kubernetes KUBELET_DIR=/var/lib/kubelet
# Some fifty files of 2 KB each is what kubeadm makes. What is larger is data, and no configuration.
readonly FILE_LIMIT_BYTES=$((1024 * 1024)) BUNDLE_LIMIT_BYTES=$((16 * 1024 * 1024)) BUNDLE_LIMIT_ENTRIES=1000
readonly LINKS_LIMIT=40 NAMES_LIMIT=20

# ---------------------------------------------------------------- what belongs to it

# resolve PATH: sets REAL to the path without a link that PATH leads to, or to '' when links go in a circle, and LINKS to those on the way.
resolve() {
  local rest=$1 so_far='' part target
  REAL='' LINKS=()
  while [[ -n $rest ]]; do
    part=${rest%%/*}
    if [[ $rest == */* ]]; then rest=${rest#*/}; else rest=''; fi
    case $part in
      '' | .) continue ;;
      ..)
        so_far=${so_far%/*}
        continue
        ;;
    esac
    if [[ -L $so_far/$part ]]; then
      LINKS+=("$so_far/$part")
      ((${#LINKS[@]} <= LINKS_LIMIT)) || return 0
      target=$(readlink -- "$so_far/$part")
      [[ $target != /* ]] || so_far=''
      rest=$target${rest:+/$rest}
    else
      so_far+=/$part
    fi
  done
  REAL=$so_far
}

# add_entry PATH: PATH itself, be it a file or a link, and the folders that it lies in. Not those of every machine: /etc and /var/lib.
add_entry() {
  local folder=${1%/*}
  [[ -z ${ENTRIES[$1]-} ]] || return 0
  ENTRIES[$1]=yes
  ((${#ENTRIES[@]} <= BUNDLE_LIMIT_ENTRIES)) ||
    refuse "$EXIT_TOO_LARGE" too-large "more than $BUNDLE_LIMIT_ENTRIES files belong to the bundle, of which $1 is the first too many; expected some fifty; take what is no configuration out of its folder"
  while [[ ${folder#/} == */* && $folder != /var/lib && -z ${FOLDERS[$folder]-} ]]; do
    FOLDERS[$folder]=yes
    folder=${folder%/*}
  done
}

# add PATH: a file with every link that leads to it. What is not there is noted as missing, what lies where no configuration does as left out; a
# folder, a socket or a device is none of ours.
add() {
  local link
  resolve "$1"
  if [[ -z $REAL || ! -e $REAL ]]; then
    MISSING+=("$1")
    return 0
  fi
  [[ -f $REAL ]] || return 0
  case $REAL in
    /proc/* | /sys/* | /dev/* | /run/*)
      LEFT_OUT+=("$1")
      return 0
      ;;
  esac
  for link in "${LINKS[@]}"; do
    add_entry "$link"
  done
  add_entry "$REAL"
}

# add_if_there PATH: the same for what not every node has.
add_if_there() {
  [[ ! -e $1 ]] || add "$1"
}

# add_tree FOLDER DEPTH: every file under a folder, and under folders that its links lead to.
add_tree() {
  local entry link
  (($2 <= 8)) ||
    refuse "$EXIT_TOO_LARGE" too-large "folders are nested more than 8 deep down to $1, expected two or three; take what is no configuration out of them"
  for entry in "$1"/*; do
    if [[ -d $entry ]]; then
      resolve "$entry"
      for link in "${LINKS[@]}"; do
        add_entry "$link"
      done
      add_tree "$REAL" $(($2 + 1))
    else
      add "$entry"
    fi
  done
}

# add_kubeconfig FILE: a kubeconfig and the files that it names: the kubelet's certificate is a link that it turns to a new file by itself.
add_kubeconfig() {
  local line
  add "$1"
  [[ -f $1 ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    [[ ! $line =~ ^[[:space:]]*(certificate-authority|client-certificate|client-key|tokenFile):[[:space:]]*[\"\']?(/[^\"\'#]*[^\"\'#[:space:]]) ]] ||
      add "${BASH_REMATCH[2]}"
  done <"$1"
}

# add_named NAME VALUE: the files of the host that the value of a container's flag names. Only what a hostPath volume shows: the rest is the image's.
add_named() {
  local part
  local -a parts
  # What it writes into, and whole folders.
  [[ $1 != *log* && $1 != *-dir ]] || return 0
  IFS=, read -r -a parts <<<"$2"
  for part in "${parts[@]}"; do
    # --tls-sni-cert-key=<certificate>,<key>:<names>
    part=${part%%:*}
    [[ $part == /* ]] || continue
    host_path "$part"
    [[ -z $HOST_PATH ]] || add "$HOST_PATH"
  done
}

# add_manifest FILE: a static pod's manifest and every file of the host that it names by a flag or as a volume.
add_manifest() {
  local argument name='' mount path
  local -a arguments
  add "$1"
  manifest_arguments "$1"
  arguments=("${ARGUMENTS[@]}")
  read_mounts "$1"
  # Volumes as the manifest has them: it may be another pod's than etcd's.
  ETCD_PID=''
  for argument in "${arguments[@]}"; do
    case $argument in
      -*=*)
        add_named "${argument%%=*}" "${argument#*=}"
        name=''
        ;;
      -*) name=$argument ;;
      *)
        [[ -z $name ]] || add_named "$name" "$argument"
        name=''
        ;;
    esac
  done
  for mount in "${MOUNTS[@]}"; do
    path=${mount#*=}
    if [[ -f $path ]]; then
      add "$path"
    # Configuration that configuration names, such as that of admission plugins. Any other folder may hold data, logs or the image's own.
    elif [[ -d $path && $path == "$KUBERNETES_DIR"/?* ]]; then
      add_tree "$path" 1
    fi
  done
}

# weigh: sets FILES and BYTES, and leaves out what is too large. All at once: one process for each file would take seconds.
weigh() {
  local file size index
  local -a files=() sizes
  FILES=0 BYTES=0
  for file in "${!ENTRIES[@]}"; do
    [[ -L $file ]] || files+=("$file")
  done
  stat -c %s -- "${files[@]}" >"$STAGED/sizes"
  mapfile -t sizes <"$STAGED/sizes"
  for index in "${!files[@]}"; do
    size=${sizes[index]}
    if ((size > FILE_LIMIT_BYTES)); then
      LEFT_OUT+=("${files[index]}")
      # Not unset, which some versions of bash have expand the name of the file once more.
      ENTRIES[${files[index]}]=no
    else
      FILES=$((FILES + 1)) BYTES=$((BYTES + size))
    fi
  done
  ((BYTES <= BUNDLE_LIMIT_BYTES)) ||
    refuse "$EXIT_TOO_LARGE" too-large "the $FILES files that belong to the bundle have $BYTES bytes, expected some 100 KB and $BUNDLE_LIMIT_BYTES bytes at most; take what is no configuration out of their folders"
}

# collect: sets ENTRIES (files and links), FOLDERS, FILES, BYTES, MISSING and LEFT_OUT.
collect() {
  local file pki=$KUBERNETES_DIR/pki
  ENTRIES=() FOLDERS=() MISSING=() LEFT_OUT=()
  find_static_pods
  [[ -r $STATIC_PODS/etcd.yaml ]] ||
    refuse "$EXIT_NO_ETCD" no-etcd "no readable $STATIC_PODS/etcd.yaml on this node, expected kubeadm's static pod of etcd; check that this is a control-plane node with a stacked etcd"
  [[ -r $pki/ca.crt ]] ||
    refuse "$EXIT_CERTIFICATE_MISSING" certificate-missing "no readable $pki/ca.crt on this node, expected the cluster's CA where kubeadm puts it; check that this is a control-plane node"
  # Hidden files are files; a folder that is empty has none.
  shopt -s dotglob nullglob
  add_tree "$pki" 1
  # Without these all certificates, kubeconfigs and tokens have to be made anew.
  for file in ca.key sa.key sa.pub etcd/ca.crt etcd/ca.key; do
    [[ -e $pki/$file ]] || MISSING+=("$pki/$file")
  done
  for file in "$KUBERNETES_DIR"/*.conf; do
    add_kubeconfig "$file"
  done
  for file in "$KUBERNETES_DIR"/*.yaml; do
    add "$file"
  done
  for file in "$KUBELET_DIR"/{config.yaml,instance-config.yaml,kubeadm-flags.env} /etc/{default,sysconfig}/kubelet; do
    add_if_there "$file"
  done
  for file in kube-apiserver kube-controller-manager kube-scheduler; do
    [[ -e $STATIC_PODS/$file.yaml ]] || MISSING+=("$STATIC_PODS/$file.yaml")
  done
  # As the kubelet reads the folder: every file that is not hidden, so also the pod that gives API servers their common address.
  for file in "$STATIC_PODS"/[!.]*; do
    [[ ! -f $file ]] || add_manifest "$file"
  done
  shopt -u dotglob nullglob
  weigh
}

# ---------------------------------------------------------------- one file of it

# archive ARGUMENT...: tar, so that the same files give the same bytes.
archive() {
  tar --directory / --format gnu --numeric-owner --no-recursion --hard-dereference --null --file "$STAGED/bundle.tar" "$@"
}

# pack: sets PACKED, COMPRESSION, SHA256 and SIZE.
pack() {
  local entry
  local -a packer unpacker folders=("${!FOLDERS[@]}") entries=()
  for entry in "${!ENTRIES[@]}"; do
    [[ ${ENTRIES[$entry]} == no ]] || entries+=("$entry")
  done
  printf '%s\0' "${folders[@]#/}" | sort -z >"$STAGED/folders"
  printf '%s\0' "${entries[@]#/}" | sort -z >"$STAGED/entries"
  # A folder's time changes with everything that is made in it, and says nothing.
  if ! archive --create --mtime @0 --files-from "$STAGED/folders" || ! archive --append --files-from "$STAGED/entries"; then
    refuse "$EXIT_COMPRESS_FAILED" compress-failed "tar into $STAGED failed (stderr has its words), expected one archive of ${#entries[@]} files and links; check the disk's free space; a file may have been replaced meanwhile: run it again"
  fi
  if type -P zstd >/dev/null; then
    COMPRESSION=zstd PACKED=$STAGED/bundle.tar.zst packer=(zstd -q -c -3) unpacker=(zstd -q -d -c)
  else
    COMPRESSION=gzip PACKED=$STAGED/bundle.tar.gz packer=(gzip -n -c -6) unpacker=(gzip -d -c)
  fi
  # What is announced is what comes out of it again: bytes, modes and owners are those on the node's disk.
  if ! "${packer[@]}" <"$STAGED/bundle.tar" >"$PACKED" ||
    ! "${unpacker[@]}" <"$PACKED" | tar --directory / --numeric-owner --compare --file -; then
    refuse "$EXIT_COMPRESS_FAILED" compress-failed "the bundle does not hold what is on the node (stderr has the words of tar and $COMPRESSION), expected the same files, modes and owners; check the disk's free space; a file may have been replaced meanwhile: run it again"
  fi
  hash_of "$PACKED"
  SHA256=$HASH_OF
  SIZE=$(stat -c %s -- "$PACKED")
}

announce() {
  local name
  name=$(uname -n)
  seconds_since "$STARTED_MS"
  # Names of files, which are no secret; never what is in them.
  result "{\"ok\":true,\"bundleId\":\"$BUNDLE_ID\",\"node\":$(json_string "${name:0:253}"),\"compression\":\"$COMPRESSION\",\"size\":$SIZE,\"sha256\":\"$SHA256\",\"files\":$FILES,\"bytes\":$BYTES,\"missing\":$(json_strings "${MISSING[@]:0:NAMES_LIMIT}"),\"leftOut\":$(json_strings "${LEFT_OUT[@]:0:NAMES_LIMIT}"),\"seconds\":$SECONDS_SINCE}"
}

store() {
  [[ $SHA256 == "$ANNOUNCED" ]] ||
    refuse "$EXIT_NOTHING_STAGED" nothing-staged "the bundle has SHA-256 $SHA256, expected $ANNOUNCED as announced a moment ago: a file of it changed meanwhile; nothing was sent; run it again"
  put "$PACKED" "$1" "$2"
  [[ $HTTP_CODE == 200 ]] || refuse_put
  seconds_since "$STARTED_MS"
  result "{\"ok\":true,\"bundleId\":\"$BUNDLE_ID\",\"size\":$SIZE,\"seconds\":$SECONDS_SINCE,\"attempts\":$ATTEMPT}"
}

main() {
  local url headers
  local -A ENTRIES FOLDERS
  local -a LINKS MISSING LEFT_OUT
  begin_puts
  parameter BundleId '^[0-9]{8}T[0-9]{6}Z$'
  BUNDLE_ID=$PARAMETER
  parameter Sha256 '^([0-9a-f]{64})?$'
  ANNOUNCED=$PARAMETER
  parameter Url '^(https?://[]A-Za-z0-9.:/?&=%~_+[-]+)?$'
  url=$PARAMETER
  parameter Headers "^($PUT_HEADERS)?\$"
  headers=$PARAMETER
  [[ -n $url ]] && [[ -n $headers && -n $ANNOUNCED ]] || [[ -z $url$headers$ANNOUNCED ]] ||
    refuse "$EXIT_BAD_PARAMETER" bad-parameter "parameters Sha256, Url and Headers: got only some of the three, expected all of them, to store a bundle, or none, to announce one; nothing was run"
  begin curl date flock gzip head mkdir openssl readlink sleep sort stat tar tr uname
  STAGED=$STAGING_DIR/pki
  rm -rf -- "$STAGED"
  mkdir -p -- "$STAGED"
  collect
  pack
  log "bundle $BUNDLE_ID has $FILES files of $BYTES bytes, $SIZE bytes packed; missing: ${MISSING[*]:0:NAMES_LIMIT}; left out: ${LEFT_OUT[*]:0:NAMES_LIMIT}"
  if [[ -z $url ]]; then
    announce
  else
    store "$url" "$headers"
  fi
}

main
