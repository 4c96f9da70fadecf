# Names and places of the lab; sourced by kindlab and images.sh.
KIND_VERSION=v0.33.0
NAME=maleo-kindlab
USER_NAME=maleo-kind
STATE=/var/lib/maleo-kindlab
HOME_FOLDER=$STATE/home
NETWORK=/run/netns/$NAME
CACHE=${MALEO_CACHE:-$HOME/.cache/maleo}/kindlab/$KIND_VERSION
PACKAGES=/var/cache/maleo-kindlab
LOG=${TMPDIR:-/tmp}/maleo-kindlab.log
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=${PYTHON:-$SOURCE/.venv/bin/python}
NODE_IMAGE=kindest/node:maleo
DEBIAN_PACKAGES='docker.io containerd runc debootstrap docker-registry slirp4netns iproute2 util-linux procps jq busybox-static'
export DOCKER_HOST=unix://$STATE/docker.sock DOCKER_BUILDKIT=0
