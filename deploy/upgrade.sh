#!/bin/sh
# Replaces gateways and job workers by what `.env` and the images say now, while requests go on:
#
#     docker compose build        # or pull, after another IMAGE_TAG in .env
#     sh deploy/upgrade.sh
#
# One more of each is started first; then the old ones go one after another, each with the time to
# finish what it works on, and a new one takes its place. Where a release also changes the proxy or
# Redis, `docker compose up --detach` replaces these, within seconds.
set -eu
project=${COMPOSE_PROJECT_NAME:-trustscale}

of() {
  docker ps --quiet --filter "label=com.docker.compose.project=$project" \
    --filter "label=com.docker.compose.service=$1"
}

up() {  # of service $1 so many, $2; none that runs is touched
  docker compose up --detach --no-build --no-deps --no-recreate --scale "$1=$2" "$1"
  for one in $(of "$1"); do
    patience=300
    until [ "$(docker inspect --format '{{.State.Health.Status}}' "$one")" = healthy ]; do
      [ "$patience" -gt 0 ] || { echo "$one is not healthy; the others still serve." >&2; exit 1; }
      patience=$((patience - 1))
      sleep 1
    done
  done
  sleep 10  # until the proxy has asked for the names again
}

retire() {
  docker rename "$1" "retired-$1"  # its name is free at once
  docker stop --time 140 "$1"
  docker rm "$1" || true  # podman keeps it while the proxy, which once waited for it, is there
}

for service in gateway jobs; do
  old=$(of "$service")
  most=$(($(echo "$old" | wc -w) + 1))
  up "$service" "$most"
  for one in $(of "$service"); do
    case "$old" in *"$one"*) ;; *) spare=$one ;; esac
  done
  for one in $old; do
    retire "$one"
    up "$service" "$most"
  done
  retire "$spare"
done
