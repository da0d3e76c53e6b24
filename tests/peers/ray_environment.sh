#!/usr/bin/env bash
# Make .venv-ray if it is missing: bertrt and sentence-transformers on Ray, for the benchmarks.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-ray"
cd "$root"

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet -c constraints.txt torch
    "$venv/bin/pip" install --quiet -c constraints.txt setuptools --editable '.[cpu,export,serve,ray]' \
        sentence-transformers
    touch "$venv/.installed"
fi
