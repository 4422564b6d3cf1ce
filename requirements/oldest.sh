#!/bin/sh
# The quick tests of the service with the oldest releases of its own dependencies that pyproject.toml
# allows: `make oldest`. What these need, and what tests need, comes in any release that fits.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv pip compile pyproject.toml --quiet --no-header --no-annotate --resolution lowest-direct \
  --output-file "$work/all"
python - "$work/all" > "$work/own" <<'END'
import re, sys, tomllib
name = re.compile(r"[\w.-]+")
with open("pyproject.toml", "rb") as file:
    own = {name.match(one)[0].lower() for one in tomllib.load(file)["project"]["dependencies"]}
with open(sys.argv[1]) as lines:
    print(*(line for line in lines if name.match(line)[0].lower() in own), sep="")
END
uv venv --quiet --clear .venv-oldest
uv pip install --quiet --python .venv-oldest/bin/python --constraint "$work/own" \
  --editable '.[credentials,evaluate,tracing,formats,text]' --group dev
.venv-oldest/bin/python -m pytest -q -n 3 --dist worksteal \
  -m "not (slow or servers or gpu or stack or hosts)" \
  tests/api tests/calibration tests/cli tests/client tests/conformal tests/contract tests/images tests/kinds tests/proof \
  tests/jobs tests/sampling tests/serving tests/telemetry tests/upscalers tests/monitoring
