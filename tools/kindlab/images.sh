#!/usr/bin/env bash
# The images of the lab, by the engine that DOCKER_HOST names: kind's node image, and two that the demo takes from a
# public registry. Each is made once and kept in the cache as an archive.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"

SUITE=bookworm # the last whose systemd and containerd run nodes on cgroup v1
NODE_SYSTEM=systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,conntrack,iptables,nftables,ipset
NODE_SYSTEM+=,ebtables,iproute2,ethtool,socat,kmod,mount,procps,curl,jq,ca-certificates
PYTHON_SYSTEM=python3,ca-certificates

main() {
  provide "$NODE_IMAGE" node_image 'debian component_images containerd_import with_libraries import' "$NODE_SYSTEM" \
    "$KIND_VERSION $(cat "$STATE/programs/version")" "$(cat "$here/cni.sh" "$here"/manifests/*)"
  provide python:3.11-slim python_image 'debian import' "$PYTHON_SYSTEM"
  provide registry:2.8.3 registry_image 'with_libraries import'
}

provide() { # IMAGE FUNCTION HELPERS [INPUT...]: load the image, or make it; its archive's name tells what it is made of
  local image=$1 function=$2 helpers=$3 key archive
  shift 3
  # shellcheck disable=SC2086 # words
  key=$({ declare -f "$function" $helpers && echo "$SUITE" "$@"; } | sha256sum | cut -c1-16)
  archive=$CACHE/$function-$key.tar
  if [ ! -e "$archive" ]; then
    echo "kindlab: making $image, once"
    "$here/images.sh" "$function" "$image" >"$LOG" 2>&1 || { tail -n 20 "$LOG" >&2 && exit 1; }
    docker save --output "$archive.partial" "$image"
    rm -f "$CACHE/$function"-*.tar
    mv "$archive.partial" "$archive"
  elif [ "$(cat "$STATE/$function" 2>/dev/null)" != "$key" ]; then
    echo "kindlab: loading $image"
    docker load --quiet --input "$archive" >/dev/null
  fi
  echo "$key" >"$STATE/$function"
}

node_image() { # IMAGE FOLDER
  local root=$2/root programs=$STATE/programs base
  base=$(go env GOMODCACHE)/sigs.k8s.io/kind@$KIND_VERSION/images/base/files
  [ -d "$base" ] || go mod download "sigs.k8s.io/kind@$KIND_VERSION"
  debian "$root" "$NODE_SYSTEM"

  # As kind's base image: its files, and few of the system's units.
  cp --recursive --no-preserve=mode,ownership "$base/etc" "$base/kind" "$base/usr" "$root/"
  chmod 755 "$root"/kind/bin/* "$root"/usr/local/bin/*
  sed --in-place 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' "$root/etc/containerd/config.toml"
  rm -f "$root"/lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* "$root"/etc/systemd/system/*.wants/* \
    "$root"/lib/systemd/system/sockets.target.wants/*{udev,initctl}* "$root/lib/systemd/system/containerd.service" \
    "$root/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service"
  echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
  systemctl --root "$root" enable kubelet.service containerd.service undo-mount-hacks.service
  systemctl --root "$root" mask systemd-binfmt.service
  : >"$root/etc/machine-id"
  mkdir -p "$root/opt/cni/bin" "$root/etc/cni/net.d" "$root/etc/kubernetes/manifests"
  cp "$root"/usr/lib/cni/{host-local,loopback,ptp,portmap} "$root/opt/cni/bin/"
  for program in containerd ctr containerd-shim-runc-v2; do ln -sf "/usr/bin/$program" "$root/usr/local/bin/"; done
  chroot "$root" ctr oci spec |
    jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
      >"$root/etc/containerd/cri-base.json"

  # As `kind build node-image`: programs, manifests, and the images that kubeadm starts from.
  install -m 755 "$programs"/{kubelet,kubectl,kubeadm} "$root/usr/bin/"
  cp "$programs/version" "$root/kind/version"
  cp --recursive "$here/manifests" "$root/kind/manifests"
  component_images "$2" "$root"
  containerd_import "$root" "$2/components.tar"

  tar --create --directory "$root" --file "$2/root.tar" .
  printf '%s\n' 'FROM scratch' 'ADD root.tar /' 'ENV container=docker' 'STOPSIGNAL SIGRTMIN+3' \
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' >"$2/Dockerfile"
  printf '%s\n' '*' '!root.tar' >"$2/.dockerignore"
  docker build --quiet --tag "$1" "$2"
}

component_images() { # FOLDER NODE-ROOT: one image for the control plane, one for what runs on every node
  local programs=$STATE/programs control=$1/control node=$1/node name
  mkdir -p "$control/usr/local/bin" "$node"/{bin,tmp,run,etc,usr/bin,usr/local/bin}
  cp "$programs"/{kube-apiserver,kube-controller-manager,kube-scheduler,etcd} "$control/usr/local/bin/"
  with_libraries "$2" "$node" "$2"/usr/sbin/xtables-nft-multi "$2"/bin/ip "$2"/usr/lib/*/xtables/*.so
  for name in iptables ip6tables; do
    for suffix in '' -save -restore; do ln -s xtables-nft-multi "$node/usr/sbin/$name$suffix"; done
  done
  install -m 755 "$here/cni.sh" "$programs"/{kubectl,kube-proxy} "$node/usr/bin/"
  ln -s /usr/bin/kube-proxy "$node/usr/local/bin/kube-proxy"
  cp /bin/busybox "$node/bin/busybox"
  for name in sh cat mv sleep tail; do ln -s busybox "$node/bin/$name"; done
  import "$control" docker.io/maleo/lab-control:1
  import "$node" docker.io/maleo/lab-node:1 --change 'ENTRYPOINT ["tail", "-f", "/dev/null"]'
  local images=(docker.io/maleo/lab-node:1) image
  while read -r image; do
    case $image in
      */coredns*) continue ;; # nothing in Maleo asks a name
      */pause:* | */kube-proxy:*) docker tag maleo/lab-node:1 "$image" ;;
      *) docker tag maleo/lab-control:1 "$image" ;;
    esac
    images+=("$image")
  done < <("$programs/kubeadm" config images list --kubernetes-version "$(cat "$programs/version")"
    sed -n 's/^ *sandbox_image = "\(.*\)"/\1/p' "$2/etc/containerd/config.toml")
  docker save --output "$1/components.tar" "${images[@]}"
}

containerd_import() { # ROOT ARCHIVE: into the image store of the node's containerd, by this machine's containerd
  local socket=$folder/containerd.sock
  printf '%s\n' 'version = 2' 'disabled_plugins = ["io.containerd.grpc.v1.cri"]' >"$folder/containerd.toml"
  containerd --config "$folder/containerd.toml" --root "$1/var/lib/containerd" --state "$folder/state" --address "$socket" &
  containerd=$!
  # shellcheck disable=SC2016 # the inner shell's argument
  timeout 30 sh -c 'until ctr --address "$1" version >/dev/null 2>&1; do sleep 0.2; done' sh "$socket"
  ctr --address "$socket" --namespace k8s.io images import --all-platforms --no-unpack --digests "$2"
  kill "$containerd"
  tail --pid="$containerd" -f /dev/null
}

python_image() { # IMAGE FOLDER
  debian "$2/root" "$PYTHON_SYSTEM"
  import "$2/root" "$1" --change 'CMD ["python3"]'
}

registry_image() { # IMAGE FOLDER
  mkdir -p "$2/root/etc/docker/registry" "$2/root/var/lib/registry"
  with_libraries '' "$2/root" /usr/bin/docker-registry
  printf '%s\n' 'version: 0.1' 'storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}' \
    'http: {addr: ":5000"}' >"$2/root/etc/docker/registry/config.yml"
  import "$2/root" "$1" --change 'EXPOSE 5000' --change 'VOLUME /var/lib/registry' \
    --change 'ENTRYPOINT ["docker-registry", "serve", "/etc/docker/registry/config.yml"]'
}

debian() { # ROOT PACKAGES: from where this machine's apt takes its own
  local mirror
  # shellcheck disable=SC2016 # apt's variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $SUITE" 'Created-By: Packages' 'Component: main' | head -n 1)
  [ -n "$mirror" ] || { echo "apt knows no Debian $SUITE" >&2 && return 1; }
  debootstrap --variant=minbase --include="$2" "$SUITE" "$1" "$mirror"
  rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,locale}/* "$1"/var/log/*
}

with_libraries() { # FROM TO FILE...: copy files of the system FROM, and every library that they load
  local from=$1 to=$2 file library
  shift 2
  for file in "$@"; do
    file=${file#"$from"}
    { echo "$file"; chroot "${from:-/}" ldd "$file" | grep -o '/[^ ]*' || true; }
  done | sort -u | while read -r library; do
    mkdir -p "$to$(dirname "$library")"
    cp --dereference "$from$library" "$to$library"
  done
}

import() { # ROOT IMAGE [OPTION...]
  local root=$1 image=$2
  shift 2
  tar --create --directory "$root" . |
    docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$@" - "$image"
}

if [ $# = 0 ]; then
  main
else # a function of this file in a process of its own, where `set -e` holds: FUNCTION IMAGE
  folder=$(mktemp --directory "$STATE/work.XXXXXX")
  containerd=''
  trap '[ -z "$containerd" ] || kill "$containerd" 2>/dev/null || true; rm -rf "$folder"' EXIT
  "$1" "$2" "$folder"
fi
