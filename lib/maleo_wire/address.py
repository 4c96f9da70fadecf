"""Addresses as URLs spell them."""

import re
from typing import Final

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/?#]*@|[?#].*", re.DOTALL)


def join(host: str, port: int | str) -> str:
    """With the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def split(address: str) -> tuple[str, str]:
    """Return host and port of what `join` made; the host has no brackets, and both are empty for no address."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def mend(url: str) -> str:
    """`http://$(HOST_IP):9808` as Kubernetes expands it: the brackets are missing where the address is IPv6."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return f"{scheme}://{join(host, port)}"


def show(uri: str) -> str:
    """The address of an artefact as it may be told and logged: without a user, a password and a query."""
    return _CREDENTIALS.sub("", uri)
