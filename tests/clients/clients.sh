#!/usr/bin/env bash
# Clients that people have talk to `bertrt serve`, from environments of their own, which have neither
# bertrt nor PyTorch. Their answers are compared with the runtime's. Arguments go to pytest.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tests/clients"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

environment() {  # NAME REQUIREMENTS: make an environment unless it is there as required
    if [ ! "$root/$1/.installed" -nt "$here/$2" ]; then
        rm -rf "${root:?}/$1"
        "${PYTHON:-python3}" -m venv "$root/$1"
        "$root/$1/bin/pip" install --quiet --upgrade pip
        "$root/$1/bin/pip" install --quiet --requirement "$here/$2"
        touch "$root/$1/.installed"
    fi
}

environment .venv-clients requirements.txt
environment .venv-clients-infinity requirements-infinity.txt
PYTHONPATH="$root/tests/peers" "$root/.venv/bin/python" "$here/make_artifacts.py" "$work"
export BERTRT="$root/.venv/bin/bertrt" ARTIFACTS="$work"
"$root/.venv-clients/bin/pytest" "$here" --ignore "$here/with_infinity_client.py" "$@"
"$root/.venv-clients-infinity/bin/pytest" "$here/with_infinity_client.py" "$@"
