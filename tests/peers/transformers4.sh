#!/usr/bin/env bash
# Run all tests with transformers 4.57, in its own environment. Arguments go to pytest.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-transformers4"
cd "$root"

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    grep -vE '^(transformers|tokenizers|huggingface_hub)==' constraints.txt >"$venv/constraints.txt"
    echo "transformers==4.57.6" >>"$venv/constraints.txt"
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet -c "$venv/constraints.txt" torch
    "$venv/bin/pip" install --quiet -c "$venv/constraints.txt" setuptools --editable '.[cpu,export]' --group dev
    touch "$venv/.installed"
fi
"$venv/bin/pytest" -n 2 --dist loadfile "$@"
