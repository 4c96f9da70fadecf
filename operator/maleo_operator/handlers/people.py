"""kopf watch handlers for the kinds that users write. They pass objects to the cache, which marks dependants dirty."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

import kopf

from maleo_kube.answers import Object
from maleo_kube.resources import Kind
from maleo_wire.address import join

Hear = Callable[[Kind, Object, bool], None]
"""Callback (kind, object, deleted), called in the operator's event loop."""

log: Final = logging.getLogger("maleo.handlers")


class _NoProgress(kopf.StatusProgressStorage):
    """No-op progress storage: `on.event` handlers need none, so nothing is written to the objects or compared."""

    def store(self, **_: Any) -> None:
        return

    def purge(self, **_: Any) -> None:
        return


class _NoDiffBase(kopf.AnnotationsDiffBaseStorage):
    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})


def make_registry(kinds: Collection[Kind], hear: Hear) -> kopf.OperatorRegistry:
    """Return a kopf registry with settings, login and one event handler per kind."""
    registry = kopf.OperatorRegistry()
    kopf.on.startup(registry=registry)(_configure)
    kopf.on.login(registry=registry)(_login)
    for kind in kinds:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)(_handler(kind, hear))
    return registry


def _handler(kind: Kind, hear: Hear) -> Callable[..., None]:
    def handle(event: kopf.RawEvent, **_: Any) -> None:
        item = {"apiVersion": kind.api_version, "kind": kind.kind, **event["object"]}
        hear(kind, item, event["type"] == "DELETED")

    return handle


def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = 5
    settings.networking.request_timeout = 10


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    account = kopf.login_with_service_account(**kwargs)
    if account is None:
        return None
    # kopf would resolve kubernetes.default.svc by DNS; every pod has the address in its environment.
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return replace(account, server=f"https://{join(host, port)}")


class Listener:
    """kopf in a thread and event loop of its own, so that its signal handlers and workers do not affect the cycle."""

    def __init__(self, kinds: Collection[Kind], hear: Hear) -> None:
        loop = asyncio.get_running_loop()

        def pass_on(kind: Kind, item: Object, deleted: bool) -> None:
            loop.call_soon_threadsafe(hear, kind, item, deleted)

        self._registry = make_registry(kinds, pass_on)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=6)

    def _run(self) -> None:
        try:
            asyncio.run(kopf.operator(registry=self._registry, standalone=True, clusterwide=True, stop_flag=self._stop))
        except Exception:
            log.exception("kopf ended; re-lists go on, and /healthz says so")
