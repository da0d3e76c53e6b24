#!/usr/bin/env bash
# Make .venv-infinity if it is missing. Newer releases of what is pinned break infinity 0.0.78, or need
# a newer infinity that does not exist.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-infinity"

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet torch==2.13.0
    "$venv/bin/pip" install --quiet torch==2.13.0 'infinity-emb[server,torch]==0.0.78' \
        'transformers<5' 'starlette<0.42' 'fastapi<0.116'
    touch "$venv/.installed"
fi
