#!/bin/sh
# The pod network of a node, in place of kind's own: each node routes the pod ranges of the others, without an overlay.
# Runs on every node with the host's network; needs POD_SUBNET and NODE_NAME.
masquerade() { # what leaves the pods' range leaves with the node's address
  rule="POSTROUTING --source $POD_SUBNET ! --destination $POD_SUBNET --jump MASQUERADE"
  # shellcheck disable=SC2086 # words of a rule
  iptables -w -t nat -C $rule 2>/dev/null || iptables -w -t nat -A $rule
}

configure() { # $1: pod range of this node
  cat >/etc/cni/net.d/.partial <<JSON
{"cniVersion": "0.3.1", "name": "lab", "plugins": [
  {"type": "ptp", "mtu": 1500, "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
   "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "$1"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  mv /etc/cni/net.d/.partial /etc/cni/net.d/10-lab.conflist
}

fields='{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}'
while :; do
  kubectl get nodes --watch --output "jsonpath=$fields" | while read -r name range address; do
    masquerade
    if [ "$name" = "$NODE_NAME" ]; then
      configure "$range"
    elif [ -n "$address" ]; then
      ip route replace "$range" via "$address"
    fi
  done
  sleep 1
done
