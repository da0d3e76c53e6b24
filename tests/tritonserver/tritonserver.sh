#!/usr/bin/env bash
# A real tritonserver runs what `bertrt export-triton` wrote, from an environment with bertrt's runtime
# and without PyTorch. The server and its Python backend come from a wheel of NVIDIA's, of which
# nothing else is used. It has no ONNX Runtime backend. Arguments go to pytest.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tests/tritonserver"
venv="$root/.venv-triton"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$root"

if [ ! "$venv/.installed" -nt "$here/requirements.txt" ] || [ pyproject.toml -nt "$venv/.installed" ]; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt" --editable '.[cpu]'
    "$venv/bin/pip" install --quiet --no-deps nvidia-pytriton==0.7.0
    touch "$venv/.installed"
fi
PYTHONPATH="$root/tests/peers" "$root/.venv/bin/python" "$here/make_repository.py" "$work"
BERTRT="$root/.venv/bin/bertrt" WORK="$work" "$venv/bin/pytest" "$here" "$@"
