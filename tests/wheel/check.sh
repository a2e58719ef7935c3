#!/usr/bin/env bash
# Build the wheel, install it into a fresh environment, and use it from outside the checkout.
set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$work/dist" "$root"
"$work/venv/bin/python" -m pip install --quiet "$work"/dist/llamapipe-*.whl
cd "$work"
bin="$work/venv/bin"
"$bin/python" -c "import llamapipe, llamapipe_operators, llamapipe_pipelines; print('wheel imports from', llamapipe.__file__)"
