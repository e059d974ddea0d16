#!/bin/bash
# Startup script of a serving VM: waits for the GPUs, fetches code and artifact, starts the unit that serves, and exits.
# The guest agent runs it at every boot and shows what it prints on the serial console.
set -euo pipefail

state=${STATE_DIRECTORY:-/var/lib/tensorrt-fleet}
metadata=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance
storage=${STORAGE_EMULATOR_HOST:-https://storage.googleapis.com}
unit=tensorrt-fleet-serving

say() { echo "serving.sh: $*"; }

fail() {
    say "error: $*" >&2
    exit 1
}

from_metadata() {
    curl -fsS --noproxy '*' --retry 10 --retry-connrefused --max-time 30 -H 'Metadata-Flavor: Google' "$metadata/$1" ||
        fail "the metadata server has no $1"
}

wait_for_gpus() {
    local expected=$1 seen deadline=$((SECONDS + 300))
    while seen=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ') || true; ((seen < expected)); do
        ((SECONDS < deadline)) || fail "$seen of $expected GPUs are visible after 300 s"
        sleep 2
    done
    say "$seen GPUs are visible"
}

download() {
    local url=$1 file=$2 pause=1 deadline=$((SECONDS + 600)) token
    # A new IAM binding takes minutes to work: until then 403 is no verdict.
    until token=$(from_metadata service-accounts/default/token | sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p') &&
        curl -fsS --max-time 300 -H @- -o "$file" "$url" <<<"Authorization: Bearer $token"; do
        ((SECONDS < deadline)) || fail "cannot fetch $url"
        say "cannot fetch $url yet; trying again in $pause s"
        sleep "$pause"
        pause=$((pause < 16 ? pause * 2 : 20))
    done
}

fetch_code() {
    local uri=$1 expected=$2 path=${1#gs://} partial found
    local bucket=${path%%/*} object=${path#*/}
    [[ -d $state/code/$expected ]] && return
    mkdir -p "$state/code"
    partial=$(mktemp -d "$state/code/.partial.XXXXXX")
    download "$storage/storage/v1/b/$bucket/o/${object//\//%2F}?alt=media" "$partial/bundle.tar.gz"
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
    local gpus uri digest container code image run
    if systemctl is-active --quiet "$unit"; then
        say "$unit is running already"
        return
    fi
    mkdir -p "$state"
    gpus=$(from_metadata attributes/fleet-gpus)
    uri=$(from_metadata attributes/fleet-code)
    digest=$(from_metadata attributes/fleet-code-sha256)
    container=$(from_metadata attributes/fleet-container)
    code=$state/code/$digest
    wait_for_gpus "$gpus"
    fetch_code "$uri" "$digest"
    bash "$code/startup/install.sh" serving "$container"
    image=$(<"$state/images/serving")
    run=(docker run --rm --network host --volume "$state:$state" --env "STATE_DIRECTORY=$state" --workdir "$code")
    say "fetching the artifact"
    "${run[@]}" "$image" python3 -m serving fetch
    # Stopped before Docker is, or its container would get the daemon's short notice instead of the time to drain.
    systemd-run --unit="$unit" --collect --description="tensorrt-fleet serving" \
        --property=After=docker.service --property=Requires=docker.service \
        --property=Restart=always --property=RestartSec=2 --property=StartLimitIntervalSec=0 \
        --property=TimeoutStopSec=40 --property="ExecStartPre=-docker rm --force $unit" \
        "${run[@]}" --name "$unit" --gpus all --init --shm-size 1g "$image" python3 -m serving
    say "started $unit"
}

main
