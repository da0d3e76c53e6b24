#!/usr/bin/env bash
# Open what `bertrt export --layout hub` writes with FastEmbed, ONNX Runtime 1.22, Optimum and
# transformers.js, each in an environment of its own, and compare with sentence-transformers' vectors.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tests/layouts"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1

if [ ! "$root/.venv-fastembed/.installed" -nt "$here/requirements.txt" ]; then
    rm -rf "$root/.venv-fastembed"
    "${PYTHON:-python3}" -m venv "$root/.venv-fastembed"
    "$root/.venv-fastembed/bin/pip" install --quiet --requirement "$here/requirements.txt"
    touch "$root/.venv-fastembed/.installed"
fi
bash "$root/tests/peers/optimum_environment.sh"
PYTHONPATH="$root/tests/peers" "$root/.venv/bin/python" "$here/make_hub.py" "$work"
"$root/.venv-fastembed/bin/python" "$here/with_fastembed.py" "$work"
"$root/.venv-optimum/bin/python" "$here/with_optimum.py" "$work"

if ! command -v npm >/dev/null; then
    echo "skipped: transformers.js needs Node"
    exit
fi
# Nothing but the package is fetched: onnxruntime-node's binaries for the CPU are in it, and its
# install script, which would fetch those for CUDA, does not run.
node="$root/.venv-fastembed/node"
if [ ! -d "$node/node_modules/@huggingface/transformers" ]; then
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$node" @huggingface/transformers@4.3.2
fi
cp "$here/with_transformers_js.mjs" "$node/"
node "$node/with_transformers_js.mjs" "$work"
"$root/.venv-fastembed/bin/python" "$here/check_transformers_js.py" "$work"
