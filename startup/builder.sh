#!/bin/bash
# Startup script of a builder VM: builds and publishes the artifact that its metadata names, and powers the VM off,
# whether or not that went well. What went wrong stands on the serial console and beside the artifact.
set -euo pipefail

state=${STATE_DIRECTORY:-/var/lib/tensorrt-fleet}
metadata=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance
storage=${STORAGE_EMULATOR_HOST:-https://storage.googleapis.com}
run=$(date -u +%Y%m%dT%H%M%SZ)-$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
reason=$state/builder-error
artifact=
told=

say() { echo "builder.sh: $*"; }

fail() {
    say "error: $*" >&2
    # A file, for a failure inside $( ) must reach `finish`, too.
    echo "$*" >"$reason"
    exit 1
}

from_metadata() {
    curl -fsS --noproxy '*' --retry 10 --retry-connrefused --max-time 30 -H 'Metadata-Flavor: Google' "$metadata/$1" ||
        fail "the metadata server has no $1"
}

authorised() {
    local token
    token=$(from_metadata service-accounts/default/token | sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p') &&
        curl -sS --max-time 300 -H @- "$@" <<<"Authorization: Bearer $token"
}

object_url() {
    local path=${1#gs://}
    local bucket=${path%%/*} object=${path#*/}
    echo "$storage/storage/v1/b/$bucket/o/${object//\//%2F}?alt=media"
}

# Waits, ten minutes, for an answer other than 403: a new IAM binding takes minutes to work.
download() {
    local url=$1 file=$2 pause=1 deadline=$((SECONDS + 600)) answer
    while answer=$(authorised -o "$file" -w '%{http_code}' "$url") || answer=none; [[ $answer != 200 && $answer != 404 ]]; do
        ((SECONDS < deadline)) || fail "cannot fetch $url: the answer is $answer"
        say "cannot fetch $url yet (the answer is $answer); trying again in $pause s"
        sleep "$pause"
        pause=$((pause < 16 ? pause * 2 : 20))
    done
    [[ $answer == 200 ]]
}

tell() {
    local sequence=$1 state=$2 error=${3//[\"\\]/\'} path=${artifact#gs://}
    local object=${path#*/}runs/$run/$sequence.json
    authorised -f -o /dev/null -H 'Content-Type: application/json' \
        --data "{\"run\": \"$run\", \"state\": \"$state\", \"stage\": \"boot\", \"error\": \"$error\"}" \
        "$storage/upload/storage/v1/b/${path%%/*}/o?uploadType=media&ifGenerationMatch=0&name=${object//\//%2F}" ||
        say "cannot write $object"
}

finish() {
    local status=$?
    trap - EXIT
    if ((status)) && [[ -n $artifact && -z $told ]]; then
        tell 999999 failed "$(head -n 1 "$reason" 2>/dev/null || echo "it ended with exit status $status")"
    fi
    say "powering off"
    poweroff
}

wait_for_gpus() {
    local expected=$1 seen deadline=$((SECONDS + 300))
    while seen=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ') || true; ((seen < expected)); do
        ((SECONDS < deadline)) || fail "$seen of $expected GPUs are visible after 300 s"
        sleep 2
    done
}

fetch_code() {
    local uri=$1 expected=$2 partial found url
    [[ -d $state/code/$expected ]] && return
    mkdir -p "$state/code"
    partial=$(mktemp -d "$state/code/.partial.XXXXXX")
    url=$(object_url "$uri")
    download "$url" "$partial/bundle.tar.gz" || fail "there is no $uri"
    found=$(sha256sum "$partial/bundle.tar.gz" | cut -d' ' -f1)
    [[ $found == "$expected" ]] || fail "$uri is damaged: its SHA-256 is $found, the metadata says $expected"
    mkdir "$partial/code"
    tar -xzf "$partial/bundle.tar.gz" -C "$partial/code" --no-same-owner
    mv -T "$partial/code" "$state/code/$expected"
    rm -r "$partial"
    say "fetched $uri"
}

main() {
    # One assignment a line: only so does a failure inside $( ) end the script.
    local gpus uri digest container request code image manifest status=0
    mkdir -p "$state"
    rm -f "$reason"
    trap finish EXIT
    artifact=$(from_metadata attributes/fleet-artifact)
    manifest=$(object_url "${artifact}manifest.json")
    if download "$manifest" /dev/null; then
        say "$artifact is built already"
        return
    fi
    tell 000000 running ""
    gpus=$(from_metadata attributes/fleet-gpus)
    uri=$(from_metadata attributes/fleet-code)
    digest=$(from_metadata attributes/fleet-code-sha256)
    container=$(from_metadata attributes/fleet-container)
    request=$(from_metadata attributes/fleet-build-request)
    code=$state/code/$digest
    wait_for_gpus "$gpus"
    fetch_code "$uri" "$digest"
    bash "$code/startup/install.sh" builder "$container" || fail "install.sh ended with exit status $?"
    image=$(<"$state/images/builder")
    local options=()
    # TensorFlow would else take the whole GPU, and TensorRT builds on it in the same process.
    ((gpus == 0)) || options=(--gpus all --shm-size 1g --env TF_FORCE_GPU_ALLOW_GROWTH=true)
    docker run --rm --network host --volume "$state:$state" --workdir "$code" "${options[@]}" "$image" \
        python3 -m model build --out "$state/artifact" --request "$request" --publish "$artifact" --run "$run" ||
        status=$?
    case $status in
        0) say "$artifact is built" ;;
        1)
            # The build has said itself, here and beside the artifact, what was wrong.
            told=yes
            exit 1
            ;;
        *) fail "the build ended with exit status $status" ;;
    esac
}

main
