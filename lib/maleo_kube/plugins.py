"""Kubeconfig with any credentials, read by the Kubernetes client library where `maleo_kube.kubeconfig` cannot.

The library supports credential plugins (`exec`, as of EKS, GKE and AKS), OpenID Connect and passwords.
"""

import asyncio
import logging
import ssl
import time
from pathlib import Path
from typing import Any, Final, Self

from maleo_kube.access import Access
from maleo_kube.errors import Forbidden
from maleo_kube.kubeconfig import Context, access_of, read_context

_RENEW_S: Final = 30.0
"""How often the library is asked for new credentials; it renews them five minutes before they expire."""


async def load_access(paths: str | Path, context: str = "") -> Access:
    """Return the access of a context, of the current one if `context` is empty.

    Raise ValueError or OSError if the kubeconfig is wrong, Forbidden if its plugin gives no credentials.
    """
    selected = read_context(paths, context)
    return await _load_by_library(paths, selected) if selected.needs_library else access_of(selected)


def load_access_now(paths: str | Path, context: str = "") -> Access:
    """Return the access of a context as `load_access` does, outside an event loop."""
    selected = read_context(paths, context)
    return asyncio.run(_load_by_library(paths, selected)) if selected.needs_library else access_of(selected)


async def _load_by_library(paths: str | Path, context: Context) -> Access:
    from kubernetes.aio import client, config  # noqa: PLC0415 - takes a second

    configuration = client.Configuration()
    with _LastError() as errors:
        try:
            loader = await config.load_kube_config(
                str(paths), context.name, client_configuration=configuration, persist_config=False
            )
        except (config.ConfigException, OSError, ValueError, KeyError) as error:
            raise _denied(context, str(error)) from error
    if "exec" in context.user.fields and not (configuration.api_key or configuration.cert_file):
        raise _denied(context, errors.message or "it returned no token and no certificate")
    renewed = time.monotonic()

    async def renew() -> None:
        nonlocal renewed
        if time.monotonic() - renewed < _RENEW_S:
            return
        renewed = time.monotonic()
        try:
            await loader.load_and_set(configuration)
        except (config.ConfigException, OSError, ValueError, KeyError) as error:
            raise _denied(context, str(error)) from error

    return Access(
        url=configuration.host.rstrip("/"),
        tls=_make_tls(configuration) if configuration.host.startswith("https:") else None,
        authorize=lambda: str(configuration.api_key.get("BearerToken", "")),
        renew=renew,
        proxy=configuration.proxy or "",
        server_name=configuration.tls_server_name or "",
        namespace=context.namespace,
    )


def _make_tls(configuration: Any) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if not configuration.verify_ssl:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    return tls


def _denied(context: Context, cause: str) -> Forbidden:
    plugin = (context.user.fields.get("exec") or {}).get("command")
    source = f"credential plugin {plugin}" if plugin else "the credentials of its user"
    return Forbidden(f"context {context.name}: {source}: {cause}")


class _LastError(logging.Handler):
    """Last error that the library logged: it does not raise the error of a plugin that fails."""

    _LOGGER: Final = logging.getLogger("kubernetes.aio.config.kube_config")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = record.getMessage()

    def __enter__(self) -> Self:
        self._LOGGER.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._LOGGER.removeHandler(self)
