#!/bin/bash
# Startup script of the temporary VM that an image is made of: installs what a role needs and says how it ended.
# The guest agent shows what it prints on the serial console, where `python -m images bake` reads it.
set -euo pipefail

state=${STATE_DIRECTORY:-/var/lib/tensorrt-fleet}
attributes=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance/attributes

say() { echo "bake.sh: $*"; }

attribute() {
    curl -fsS --noproxy '*' --retry 10 --retry-connrefused --max-time 30 -H 'Metadata-Flavor: Google' "$attributes/$1"
}

ended() {
    local status=$?
    if ((status == 0)); then
        say "finished"
    else
        say "failed with exit status $status"
    fi
}

main() {
    local role container code=$state/bake
    role=$(attribute bake-role)
    container=$(attribute bake-container)
    rm -rf "$code"
    mkdir -p "$code"
    attribute bake-payload | base64 -d | tar -xz -C "$code" --no-same-owner
    bash "$code/startup/install.sh" "$role" "$container"
    rm -rf "$code"
    apt-get clean
    # Empty, so that every VM made from the image gives itself a machine id of its own.
    tee /etc/machine-id </dev/null
}

trap ended EXIT
main
