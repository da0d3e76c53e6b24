#!/usr/bin/env bash
# bertrt on Ray, in an environment with bertrt's runtime and Ray and without PyTorch. Arguments go to
# pytest. With CLIENTS=1 the clients of `make clients` talk to Ray Serve afterwards.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tests/scale"
venv="$root/.venv-scale"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$root"

if [ ! "$venv/.installed" -nt "$here/requirements.txt" ] || [ pyproject.toml -nt "$venv/.installed" ]; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet -c constraints.txt --requirement "$here/requirements.txt" \
        --editable '.[cpu,ray,serve]'
    touch "$venv/.installed"
fi
PYTHONPATH="$root/tests/peers" "$root/.venv/bin/python" tests/clients/make_artifacts.py "$work"
export ARTIFACTS="$work" RAY_USAGE_STATS_ENABLED=0 PATH="$venv/bin:$PATH"
"$venv/bin/pytest" "$here" "$@"

if [ -n "${CLIENTS:-}" ]; then
    # The same tests, which start this in place of `bertrt`.
    export BERTRT="$work/bertrt"
    printf '#!/bin/sh\nexec "%s" -P "%s" "$@"\n' "$venv/bin/python" "$here/serve_by_ray.py" > "$BERTRT"
    chmod +x "$BERTRT"
    # Ray Serve drains by itself, and knows no --drain-delay.
    "$root/.venv-clients/bin/pytest" tests/clients --ignore tests/clients/with_infinity_client.py \
        --deselect with_tritonclient.py::test_live_and_ready_while_it_drains
fi
