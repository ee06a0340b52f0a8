#!/usr/bin/env bash
# How long from a clone to a finished demo? Clones the last commit, installs into an empty virtual environment, runs a
# short demo, and prints both times in seconds.
#
#     bench/setup_time.sh                        # with pip's cache, as on a machine that has installed it before
#     PIP_NO_CACHE_DIR=1 bench/setup_time.sh     # everything downloaded, llama.cpp compiled
#
# Changes that are not committed are not in the clone. PYTHON names another interpreter, as for deploy/setup.sh.
set -euo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

git clone --quiet "file://$root" "$folder/echo-proxy"
cd "$folder/echo-proxy"
echo "commit $(git rev-parse --short HEAD), $(nproc) cores, pip cache $([ -n "${PIP_NO_CACHE_DIR:-}" ] && echo off || echo on)"

SECONDS=0
deploy/setup.sh
setup_s=$SECONDS

SECONDS=0
.venv/bin/echo-proxy demo --plain --requests 60 > demo.log 2>&1 || { tail -n 40 demo.log >&2; exit 1; }
demo_s=$SECONDS

echo "setup: $setup_s s"
echo "demo, 60 requests to each phase: $demo_s s"
