"""Access to an API server: its address, TLS, credentials and proxy."""

import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


async def _renew_nothing() -> None:
    """Renew nothing: the credentials do not expire."""


@dataclass(frozen=True, slots=True)
class Access:
    """Address of an API server and the credentials for it.

    url: without a trailing slash. tls: None for plain HTTP. authorize: returns the Authorization header, empty for
    none; called for every request, because token files are renewed. renew: awaited before every request, renews
    credentials that are about to expire. proxy: URL of an HTTP proxy, empty for none. server_name: name expected in the
    server's certificate, empty for the host of the URL. namespace: used where a command does not name one.
    """

    url: str
    tls: ssl.SSLContext | None
    authorize: Callable[[], str]
    renew: Callable[[], Awaitable[None]] = _renew_nothing
    proxy: str = ""
    server_name: str = ""
    namespace: str = "default"


def in_cluster() -> Access:
    """Return the access of this pod's ServiceAccount. The address is that of the Service variables, without DNS."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    address = f"[{host}]" if ":" in host else host
    token = _ACCOUNT / "token"
    return Access(
        url=f"https://{address}:{port}",
        tls=ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt")),
        authorize=lambda: bearer(token.read_text(encoding="ascii")),
    )


def bearer(token: str) -> str:
    """Return the Authorization header of a token; empty for an empty token."""
    return f"Bearer {token.strip()}" if token else ""
