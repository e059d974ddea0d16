#!/bin/bash
# Installs what a role's VM needs: Docker, NVIDIA's container toolkit, the role's container and its hash-locked wheels.
# Runs when an image is baked, or at first boot; what is there already is left alone.
#
#   install.sh serving|builder CONTAINER
#
# Leaves the name of the image to run in $STATE_DIRECTORY/images/ROLE.
set -euo pipefail

state=${STATE_DIRECTORY:-/var/lib/tensorrt-fleet}
keyring=/usr/share/keyrings/nvidia-container-toolkit.gpg
source_list=/etc/apt/sources.list.d/nvidia-container-toolkit.list
toolkit=https://nvidia.github.io/libnvidia-container

say() { echo "install.sh: $*"; }

retry() {
    local turn
    for turn in 1 2 3 4 5; do
        "$@" && return
        say "failed ($turn of 5): $*"
        sleep $((turn * 3))
    done
    return 1
}

apt() {
    # Unattended upgrades hold the lock for minutes after a first boot.
    DEBIAN_FRONTEND=noninteractive retry apt-get -y -q -o DPkg::Lock::Timeout=600 "$@"
}

install_docker() {
    command -v docker >/dev/null && return
    say "installing Docker"
    apt update
    apt install ca-certificates curl gnupg docker.io docker-buildx
}

install_toolkit() {
    local done_once=$state/nvidia-runtime-configured
    [[ -e $done_once ]] && return
    if ! command -v nvidia-ctk >/dev/null; then
        say "installing NVIDIA's container toolkit"
        curl -fsSL --retry 5 "$toolkit/gpgkey" | gpg --dearmor --yes -o "$keyring"
        curl -fsSL --retry 5 "$toolkit/stable/deb/nvidia-container-toolkit.list" |
            sed "s#deb https://#deb [signed-by=$keyring] https://#" | tee "$source_list" >/dev/null
        apt update
        apt install nvidia-container-toolkit
    fi
    nvidia-ctk runtime configure --runtime=docker
    systemctl restart docker
    touch "$done_once"
}

# The wheels go beside what the container has, into the interpreter that runs them: TensorRT's Python package is its own.
build_image() {
    local role=$1 container=$2 lock=$3 image context
    image=tensorrt-fleet-$role:$(echo "$container" | cat - "$lock" | sha256sum | cut -c1-16)
    if ! docker image inspect "$image" >/dev/null 2>&1; then
        say "pulling $container"
        retry docker pull --quiet "$container"
        say "building $image"
        context=$(mktemp -d "$state/build.XXXXXX")
        cp "$lock" "$context/requirements.txt"
        cat >"$context/Dockerfile" <<-END
			FROM $container
			COPY requirements.txt /opt/tensorrt-fleet/requirements.txt
			RUN python3 -m pip install --no-cache-dir --break-system-packages --require-hashes -r /opt/tensorrt-fleet/requirements.txt
		END
        retry docker build --tag "$image" "$context"
        rm -r "$context"
    fi
    mkdir -p "$state/images"
    echo "$image" >"$state/images/$role"
    say "$image is ready"
}

main() {
    local role=${1:-} container=${2:-} code
    code=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
    local -A locks=([serving]=serving.txt [builder]=model.txt)
    if [[ -z $container || -z ${locks[$role]:-} ]]; then
        say "usage: install.sh serving|builder CONTAINER"
        exit 2
    fi
    mkdir -p "$state"
    install_docker
    install_toolkit
    build_image "$role" "$container" "$code/locks/${locks[$role]}"
}

main "$@"
