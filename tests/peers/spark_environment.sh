#!/usr/bin/env bash
# Make .venv-spark if it is missing: bertrt's runtime and Spark, for the benchmarks. Spark needs Java.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
venv="$root/.venv-spark"
cd "$root"

if [ ! -f "$venv/.installed" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet -c constraints.txt torch
    "$venv/bin/pip" install --quiet -c constraints.txt setuptools --editable '.[cpu,export,batch]' 'pyspark[sql]'
    touch "$venv/.installed"
fi
