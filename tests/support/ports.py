"""Ports and loopback addresses of this machine for servers of tests."""

import os
import socket


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port of a loopback address that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        return int(listener.getsockname()[1])


def free_block() -> int:
    """Return the second byte of loopback addresses that no cluster and no other process of these tests uses."""
    return 120 + os.getpid() % 130
