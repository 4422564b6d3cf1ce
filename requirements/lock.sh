#!/bin/sh
# Writes the locks of the images: the versions that the tests ran with (those of .venv), with the
# hashes of every file of these releases. Run it after `make install` when dependencies change:
#
#     sh requirements/lock.sh        # needs `uv` on the PATH; `make test` again afterwards
set -eu
cd "$(dirname "$0")/.."

tested=$(mktemp)
trap 'rm -f "$tested"' EXIT
# A local version such as 2.13.0+cpu is another build of the same release.
# python-dateutil comes with a tool of the tests; botocore, behind s3fs, takes an older one only.
.venv/bin/python -m pip freeze --exclude-editable |
  sed -n '/^python-dateutil==/d; s/^\([^@ ]*==[^+]*\).*/\1/p' > "$tested"

lock() {
  name=$1
  shift
  UV_CUSTOM_COMPILE_COMMAND="sh requirements/lock.sh" uv pip compile "$@" \
    --quiet --no-config --universal --python-version 3.13 --generate-hashes \
    --no-emit-index-url --no-emit-find-links \
    --constraint "$tested" --output-file "requirements/$name.lock"
}

lock gateway pyproject.toml --extra tracing
lock gateway-s3 pyproject.toml --extra tracing --extra s3
# httpx2-jsfetch is for browsers, which no image is.
lock worker pyproject.toml --extra tracing --extra diffusers --no-emit-package httpx2-jsfetch
lock build requirements/build.in
# The constraints are a temporary file: its name says nothing.
sed -i "/#   -c /d; s/^    # via -c .*/    # via the tests/" requirements/*.lock
