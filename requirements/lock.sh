#!/bin/sh
# Writes the locks: `dev` is what tests run with, the others are what images are made of, in the same
# versions on every Python. Every release has been out for a week, in which most that are broken or
# malicious are withdrawn. Run it after `make install` when dependencies change:
#
#     sh requirements/lock.sh              # `make test` again afterwards
#     sh requirements/lock.sh --upgrade    # newer releases of everything
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

lock() {
  name=$1
  shift
  UV_CUSTOM_COMPILE_COMMAND="sh requirements/lock.sh" uv pip compile "$@" \
    --quiet --no-config --universal --python-version 3.11.4 --fork-strategy fewest \
    --generate-hashes --exclude-newer "7 days" --no-annotate \
    --no-emit-index-url --no-emit-find-links --output-file "requirements/$name.lock"
}

image() {
  lock "$@" --constraint "$work/tested"
}

# Which build of torch a machine needs, its own pip knows: the lock for tests has neither it nor what
# comes with it alone. httpx2-jsfetch is for browsers; pip and setuptools are the environment's own.
printf "%s; sys_platform == 'none'\n" torch torchvision > "$work/without"
# What the other distributions need, but for our own one.
for part in workers evaluation; do
  mkdir "$work/$part"
  sed 's/"trustscale", //' "$part/pyproject.toml" > "$work/$part/pyproject.toml"
done
extras=$(sed -n "s/.*--editable '.*\[\(.*\)\]'.*/\1/p" Makefile | tr ',\n' '  ')
# shellcheck disable=SC2046,SC2086 - words
lock dev pyproject.toml "$work/workers/pyproject.toml" "$work/evaluation/pyproject.toml" \
  $(printf ' --extra %s' $extras) --group dev \
  --overrides "$work/without" --no-emit-package torch --no-emit-package torchvision \
  --no-emit-package httpx2-jsfetch --no-emit-package pip --no-emit-package setuptools "$@"

# A local version such as 2.13.0+cpu is another build of the same release.
{
  sed '/^ /d; s/ \\$//' requirements/dev.lock
  .venv/bin/python -m pip freeze | sed -n 's/^\(torch[a-z]*==[^+]*\).*/\1/p'
} > "$work/tested"
image gateway pyproject.toml --extra tracing "$@"
image gateway-extras pyproject.toml --extra tracing --extra credentials "$@"
image worker pyproject.toml "$work/workers/pyproject.toml" --extra tracing --extra diffusers \
  --no-emit-package httpx2-jsfetch "$@"
image build requirements/build.in "$@"
