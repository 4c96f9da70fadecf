# Init process of a node: creates the node's mounts, then starts containerd, kube-proxy and kubelet, and exits when one
# of them does. As PID 1 of the node, bash reaps the orphans of containerd's shims.
# Environment: NODE_NAME NODE_FOLDER NODE_ADDRESS PROGRAMS LABELS MOUNT_POINTS.
set -euo pipefail

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/netns
for path in $MOUNT_POINTS; do
  mkdir -p "$NODE_FOLDER$path"
  mount --bind "$NODE_FOLDER$path" "$path"
done
mount --make-rshared /var/lib/kubelet
hostname "$NODE_NAME"

containerd -c "$NODE_FOLDER/containerd.toml" >"$NODE_FOLDER/log/containerd.log" 2>&1 &
containerd=$!
until [ -S /run/containerd/containerd.sock ]; do
  kill -0 "$containerd"
  sleep 0.05
done
"$PROGRAMS/kube-proxy" --config "$NODE_FOLDER/proxy.yaml" >"$NODE_FOLDER/log/kube-proxy.log" 2>&1 &
proxy=$!
"$PROGRAMS/kubelet" --config "$NODE_FOLDER/kubelet.yaml" --kubeconfig "$NODE_FOLDER/kubelet.conf" \
  --hostname-override "$NODE_NAME" --node-ip "$NODE_ADDRESS" --node-labels "$LABELS" \
  >"$NODE_FOLDER/log/kubelet.log" 2>&1 &
wait -n "$containerd" "$proxy" "$!"
