#!/usr/bin/env bash
# TensorFlow and Flax write checkpoints in an environment of their own, and bertrt must give their
# answers. TensorFlow's and JAX' arrays are also passed in and out of bertrt there.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-frameworks"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --upgrade pip
    # The last transformers that has TensorFlow's and Flax' classes.
    "$venv/bin/pip" install --quiet transformers==4.57.6 tensorflow-cpu==2.19.1 tf-keras==2.19.0 \
        jax==0.4.38 flax==0.10.2 pytest
    "$venv/bin/pip" install --quiet --no-deps --editable "$root"
    touch "$venv/.installed"
fi
"$venv/bin/python" "$root/tests/frameworks/write.py" "$work/cases"
"$venv/bin/pytest" "$root/tests/bertrt/arrays/test_interop.py" -k "in_and_out"
FRAMEWORK_CASES="$work/cases" "$root/.venv/bin/pytest" "$root/tests/export/checkpoints/test_frameworks.py"
