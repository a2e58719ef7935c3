#!/usr/bin/env bash
# Build the wheel, install it into a fresh environment, and use it from outside the checkout. Where there is a C compiler
# the wheel is a compiled one, and what is compiled is tested as well: check.sh [PYTHON [PYTHON_WITH_PYTEST]]
set -euo pipefail
python=${1:-python3}
tester=${2:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
command -v cc > /dev/null && export LLAMAPIPE_COMPILE=1
"$work/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir "$work/dist" "$root"
"$work/venv/bin/python" -m pip install --quiet "$work"/dist/llamapipe-*.whl
cd "$work"
bin="$work/venv/bin"
"$bin/python" -c "import llamapipe, llamapipe_operators, llamapipe_pipelines; print('wheel imports from', llamapipe.__file__)"
"$bin/llamapipe" --help > help.txt
"$bin/llamapipe" doctor
"$bin/llamapipe" validate blur-faces
"$bin/llamapipe" init pipeline.yaml -q
"$bin/llamapipe" validate pipeline.yaml
"$bin/python" - <<'PYTHON'
"""A clip made here, run through the installed wheel: no network and no model needed."""
import av
import numpy as np

with av.open("clip.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    for i in range(10):
        picture = np.full((240, 320, 3), i * 20, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
    container.mux(stream.encode())
PYTHON
cat > plain.yaml <<'YAML'
version: 1
name: plain
ops:
  - {name: small, type: resize, inputs: $source.frames, max_side: 160}
sinks:
  - {type: video, input: $ops.small.frames, path: small.mp4}
YAML
"$bin/llamapipe" run plain.yaml -i clip.mp4 -o out
test -s out/small.mp4 && test -s out/run.json && test -s out/report.html

if [ -n "${LLAMAPIPE_COMPILE:-}" ] && [ -n "$tester" ]; then
  mkdir "$work/checkout"
  cp -r "$root"/{llamapipe,operators,pipelines,samples,benchmarks,tests,pyproject.toml} "$work/checkout"
  cd "$work/checkout"
  "$tester" tests/wheel/unpack.py "$work"/dist/llamapipe-*.whl .
  # Compiled, every example of hypothesis costs half: here all of them are tried.
  LLAMAPIPE_TEST_EXAMPLES=full PYTHONPATH=.:operators:pipelines "$tester" -m pytest -p no:cacheprovider \
    -n "${TEST_JOBS:-2}" tests/control tests/slo tests/sim
fi
