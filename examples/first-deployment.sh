#!/usr/bin/env bash
# The first deployment to Google Cloud: stack `small` (1 GPU a VM), which builds its model on a builder VM, one photo
# classified, everything destroyed again.
#
#   examples/first-deployment.sh PROJECT PHOTO.jpg
#
# With RUNTIME=onnxruntime-cpu no TensorRT plans are built, and the VM serves from its vCPUs.
#
# NOT YET RUN against Google Cloud: it is checked for syntax, and its commands and flags are checked to exist.
# Needs: `make setup` done, `gcloud auth application-default login`, a project with billing and quota for two T4s, the
# VM's and the builder's. Pulumi's state and the configuration stay in .cache/first-deployment, so a run that was cut off can be ended
# by hand with the command that is printed.
set -euo pipefail

stack=small
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$repository/.cache/first-deployment
python=$repository/.venv/bin/python

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

prepare() {
    [[ $# -eq 2 ]] || fail "usage: examples/first-deployment.sh PROJECT PHOTO.jpg"
    project=$1 photo=$(realpath "$2")
    [[ -f $photo ]] || fail "$2 is not a file"
    [[ -x $python ]] || fail "$python is missing: run \`make setup\` first"
    config=$work/Pulumi.$stack.yaml
    mkdir -p "$work/state"
    cp "$repository/Pulumi.$stack.yaml" "$config"
    PATH=$("$python" -m tools.pulumi_cli --folder):$PATH
    # A state of its own and no account needed; there are no secrets in it for the passphrase to keep.
    export PATH PULUMI_BACKEND_URL=file://$work/state PULUMI_CONFIG_PASSPHRASE=
    cd "$repository"
}

with_config() { pulumi "$@" --stack "$stack" --config-file "$config"; }

configure() {
    pulumi stack select --create "$stack" --config-file "$config"
    with_config config set gcp:project "$project"
    if [[ -n ${RUNTIME:-} ]]; then
        with_config config set --path tensorrt-fleet:model.runtime "$RUNTIME"
    fi
    with_config config set --path tensorrt-fleet:storage.forceDestroy true
}

confirm() {
    say "The plan"
    with_config preview
    read -r -p "Deploy this to project $project, and destroy it at the end? [yes/no] " answer
    [[ $answer == yes ]] || fail "nothing was deployed"
}

clean_up() {
    local status=$?
    trap - EXIT
    say "Destroy"
    if ! with_config destroy --yes; then
        printf 'error: not everything is gone and it goes on costing money. Try again:\n' >&2
        printf '  PULUMI_BACKEND_URL=%q PULUMI_CONFIG_PASSPHRASE= %q destroy --stack %s --config-file %q\n' \
            "$PULUMI_BACKEND_URL" "$(command -v pulumi)" "$stack" "$config" >&2
        exit 1
    fi
    exit "$status"
}

deploy_and_ask() {
    say "Deploy: the builder VM makes the model, then the fleet starts"
    # The builder may take 90 minutes and the VM 45 before `up` gives up by itself; what hangs beyond that is ended here.
    timeout 150m pulumi up --yes --stack "$stack" --config-file "$config"
    "$python" -m client doctor --stack "$stack" || true
    "$python" -m client wait --stack "$stack" --timeout 300
    say "Wait until the load balancer's address answers (minutes, the first time)"
    curl --fail --silent --show-error --retry 60 --retry-delay 10 --retry-all-errors --output /dev/null \
        "$(pulumi stack output healthUrl --stack "$stack")"
    say "Classify $photo"
    "$python" -m client predict "$photo" --stack "$stack"
    "$python" -m client status --stack "$stack"
}

main() {
    prepare "$@"
    configure
    confirm
    trap clean_up EXIT
    deploy_and_ask
}

main "$@"
