#!/usr/bin/env bash
# The recipes of docs/guides/integrations.md with the packages that they are for, in an environment
# with bertrt's runtime and without PyTorch. Arguments go to pytest.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tests/integrations"
venv="$root/.venv-integrations"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$root"

if [ ! "$venv/.installed" -nt "$here/requirements.txt" ] || [ pyproject.toml -nt "$venv/.installed" ]; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt" --editable '.[cpu]'
    touch "$venv/.installed"
fi
PYTHONPATH="$root/tests/peers" "$root/.venv/bin/python" "$here/make_models.py" "$work"
MODELS="$work" "$venv/bin/pytest" "$here" "$@"
