"""Launcher of a program on a process node: the program sees the network of its pod, and stays as it is.

The replaced functions of the `socket` module do what a network namespace does for a container:

- A program that listens on all addresses listens on the inner address of its pod.
- A connection to a node or pod goes to its outer address.
- A connection to the cluster comes from the outer address of the pod, by which the network process knows its node.

Usage: `python -m maleo_processcluster.launcher MODULE [ARGUMENT...]`, with the pod's address in MALEO_PROCESS_ADDRESS
and the block of the cluster's addresses in MALEO_PROCESS_BLOCK.
"""

import os
import runpy
import socket
import sys
from typing import Any, Final

from maleo_processcluster.addresses import AddressPlan

ADDRESS: Final = "MALEO_PROCESS_ADDRESS"
BLOCK: Final = "MALEO_PROCESS_BLOCK"
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h: the port is chosen by connect, which knows which are free
_ANY: Final = "0.0.0.0"  # noqa: S104 - compared with


def enter_network(address: str, plan: AddressPlan) -> None:
    """Give this process the network of the node or pod that has `address`."""
    outer, inner = plan.outer(address), plan.inner(address)
    resolve = socket.getaddrinfo

    class PodSocket(socket.socket):
        """Socket of a pod."""

        def bind(self, address: Any) -> None:
            listens_on_all = self.family == socket.AF_INET and address[0] in ("", _ANY) and address[1] != 0
            super().bind((inner, address[1]) if listens_on_all else address)

        def connect(self, destination: Any) -> None:
            super().connect(self._route(destination))

        def connect_ex(self, destination: Any) -> int:
            return super().connect_ex(self._route(destination))

        def _route(self, destination: Any) -> Any:
            """Return the destination as it is reached on this machine; bind a socket to it to the pod's address."""
            if self.family != socket.AF_INET:
                return destination
            host = plan.outer(destination[0])
            if host.startswith(f"127.{plan.block}.") and self.getsockname() == (_ANY, 0):
                self.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                self.bind((outer, 0))
            return host, *destination[1:]

    def resolve_in_pod(
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 - callers pass it by name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        if flags & socket.AI_PASSIVE and host in (None, "", _ANY, "::"):
            host, family = inner, socket.AF_INET
        return resolve(host, port, family, type, proto, flags)

    socket.socket = PodSocket  # type: ignore[misc] # the purpose of this module
    socket.getaddrinfo = resolve_in_pod


def main() -> None:
    """Run the module of the command line in the network of its pod."""
    enter_network(os.environ[ADDRESS], AddressPlan(int(os.environ[BLOCK])))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
