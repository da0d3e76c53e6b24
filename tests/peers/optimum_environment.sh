#!/usr/bin/env bash
# Make .venv-optimum if it is missing. Optimum needs transformers below 4.58.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-optimum"

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet torch==2.13.0
    "$venv/bin/pip" install --quiet torch==2.13.0 transformers==4.57.6 'optimum-onnx[onnxruntime]==0.1.0' onnxruntime==1.32.0
    touch "$venv/.installed"
fi
