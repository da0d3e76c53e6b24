#!/usr/bin/env bash
# Open artifacts with Optimum, which needs transformers below 4.58 and so its own environment.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-optimum"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

bash "$root/tests/peers/optimum_environment.sh"
"$root/.venv/bin/python" "$root/tests/peers/make_artifacts.py" "$work"
"$venv/bin/python" "$root/tests/peers/open_with_optimum.py" "$work"
