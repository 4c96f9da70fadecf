"""The operator as a kopf application: kopf owns the process, its signals, and the watches of the users' kinds.

kopf's own persistence is off: `on.event` handlers need no progress, so nothing is written to the objects. A watch
reports no deletion that happened while it was disconnected; the cache therefore lists these kinds again periodically.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, cast

import kopf

from maleo_kube.kubeconfig import read_context
from maleo_operator.handlers import device_profile, link, mission, model, model_profile
from maleo_operator.handlers.registries import ALL_KINDS, CLUSTER_SCOPED, Observe
from maleo_wire.address import join_host_port

HANDLERS: Final = (
    mission.observe_mission,
    model.observe_model,
    model_profile.observe_model_profile,
    device_profile.observe_device_profile,
    link.observe_link,
)
"""Watch handlers that kopf calls, one per kind."""
_EXIT_TIMEOUT_S: Final = 20.0
"""Below the grace period of a pod: the Lease must be released before the process is killed."""


class _NoProgress(kopf.StatusProgressStorage):
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


class _AllTasks(frozenset[asyncio.Task[Any]]):
    """Tasks that kopf must not cancel when it ends: all but its own. `stop` ends those of the operator.

    By default kopf cancels every task of the event loop that is younger than itself, also those of other components.
    """

    def __contains__(self, task: object) -> bool:
        return True


@kopf.on.startup(registry=ALL_KINDS)
@kopf.on.startup(registry=CLUSTER_SCOPED)
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Disable kopf's writes to objects, and bound its waiting times."""
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = _EXIT_TIMEOUT_S
    settings.networking.request_timeout = 10


@kopf.on.startup(registry=ALL_KINDS, errors=kopf.ErrorsMode.PERMANENT)
@kopf.on.startup(registry=CLUSTER_SCOPED, errors=kopf.ErrorsMode.PERMANENT)
async def start(memo: kopf.Memo, **_: Any) -> None:
    """Start the cache, leader election, the cycle and the servers as tasks of kopf's event loop."""
    await memo.start()


@kopf.on.cleanup(registry=ALL_KINDS)
@kopf.on.cleanup(registry=CLUSTER_SCOPED)
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Stop the operator's tasks, and release the Lease so that the next leader need not wait for its expiry."""
    await memo.stop()


@kopf.on.login(registry=ALL_KINDS)
@kopf.on.login(registry=CLUSTER_SCOPED)
def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Return the credentials of KUBECONFIG, else of the pod's ServiceAccount."""
    if kubeconfig := os.environ.get("KUBECONFIG"):
        context = read_context(kubeconfig)
        if context.needs_library:
            return kopf.login_via_client(**kwargs)
        found = kopf.login_with_kubeconfig(**kwargs)
        # kopf ignores tokenFile. It logs in again when a token has expired.
        return replace(found, token=context.read_token() or None) if found is not None else None
    account = kopf.login_with_service_account(**kwargs)
    if account is None:
        return None
    # kopf would resolve kubernetes.default.svc by DNS; every pod has the address in its environment.
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return replace(account, server=f"https://{join_host_port(host, port)}")


async def run(
    *,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
    observe: Observe,
    stopping: asyncio.Event,
    identity: str,
    is_namespaced: bool = False,
) -> None:
    """Run kopf in this event loop until `stopping` is set or the process gets SIGTERM or SIGINT.

    identity: name of this replica. By default kopf asks for the name of the user, which a container need not have.
    is_namespaced: True if kopf watches only the cluster-scoped kinds, because informers watch single namespaces.
    """
    tasks = await kopf.spawn_tasks(
        registry=CLUSTER_SCOPED if is_namespaced else ALL_KINDS,
        memo=kopf.Memo(start=start, stop=stop, observe=observe),
        standalone=True,
        clusterwide=True,
        stop_flag=stopping,
        identity=cast("Any", identity),  # kopf does not export its type, which is a str
    )
    await kopf.run_tasks(tasks, ignored=_AllTasks())
