#!/usr/bin/env bash
# The test suite with the newest release of every dependency but PyTorch, in its own environment.
# The environment is made anew on each run, since "newest" changes. Arguments go to pytest.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-newest"
cd "$root"

if [ -z "${KEEP:-}" ] || [ ! -f "$venv/.installed" ]; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    grep '^torch==' constraints.txt >"$venv/constraints.txt"
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet -c "$venv/constraints.txt" torch
    "$venv/bin/pip" install --quiet -c "$venv/constraints.txt" --upgrade --upgrade-strategy eager \
        setuptools --editable '.[cpu,export,text]' --group dev
    touch "$venv/.installed"
fi
"$venv/bin/pip" list
"$venv/bin/pytest" -n 2 --dist loadfile "$@"
