"""One pod on a process node: volumes, credentials, containers and status, until it is deleted."""

import asyncio
import base64
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from maleo_api.timestamps import format_timestamp
from maleo_kube.answers import Object
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, NotFound
from maleo_kube.resources import CONFIG_MAPS, EVENTS, PODS, SECRETS, SERVICE_ACCOUNTS
from maleo_processcluster import launcher, pod_status
from maleo_processcluster.container import Container, ContainerState
from maleo_processcluster.pod_plan import NotRunnable, Place, plan_container

log: Final = logging.getLogger("maleo.process-node")
_TOKEN_LIFE_S: Final = 3600
_RETRY_S: Final = 2.0

Variables = Callable[[str, bool], Mapping[str, str]]
"""Function of a namespace, and of whether it wants those of the namespace's Services, that returns variables."""
_KINDS: Final = {"Secret": SECRETS, "ConfigMap": CONFIG_MAPS}


class PodRunner:
    """Runner of one pod. It takes the pod as bound to its node, and forgets it when the API server has no such pod."""

    def __init__(
        self,
        client: Client,
        pod: Object,
        place: Place,
        folder: Path,
        *,
        server: str,
        authority: Path,
        variables: Variables,
    ) -> None:
        """Create the runner.

        Args:
            client: Client with the rights of the node.
            pod: The pod as stored.
            place: Node and addresses of the pod.
            folder: Folder of the pod on this machine.
            server: URL of the API server.
            authority: Certificate of the API server's authority.
            variables: Returns the variables that the node gives to a container.
        """
        self.pod = pod
        self._client = client
        self._place = place
        self._folder = folder
        self._server = server
        self._authority = authority
        self._variables = variables
        self._changed = asyncio.Event()
        self._containers: list[Container] = []
        self._states = {spec["name"]: ContainerState() for spec in pod["spec"]["containers"]}
        self._started_at = time.time()

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    @property
    def _has_account(self) -> bool:
        """Return True if the token of the pod's ServiceAccount is mounted."""
        return bool(self.pod["spec"].get("automountServiceAccountToken", True))

    def observe(self, pod: Object) -> None:
        """Take a newer version of the pod."""
        self.pod = pod
        self._changed.set()

    async def run(self) -> None:
        """Run the pod until it is deleted, then remove it from the API server and from this machine."""
        tasks: list[asyncio.Task[None]] = []
        try:
            while "deletionTimestamp" not in self.pod["metadata"]:
                self._changed.clear()
                if not tasks:
                    tasks = await self._start()
                await self._report()
                if tasks:
                    await self._changed.wait()
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_RETRY_S):
                            await self._changed.wait()
            await self._stop(tasks)
            await self._delete()
        finally:
            await self._stop(tasks, grace_s=0.0)

    async def _start(self) -> list[asyncio.Task[None]]:
        """Start the containers; return no tasks, with the reason in their states, if that is not possible yet."""
        try:
            await self._make_volumes()
            plans = [await self._plan(spec) for spec in self.pod["spec"]["containers"]]
        except (NotRunnable, ApiError) as error:
            reason = error.reason if isinstance(error, NotRunnable) else "CreateContainerConfigError"
            is_new = any(state.message != str(error) for state in self._states.values())
            for state in self._states.values():
                state.waiting, state.message = reason, str(error)
            if is_new:
                await self._record("Failed", f"{reason}: {error}")
            return []
        self._containers = plans
        for container in plans:
            self._states[container.plan.name] = container.state
            for note in container.plan.ignored:
                await self._record("Ignored", f"container {container.plan.name}: {note}")
        tasks = [asyncio.create_task(container.run()) for container in plans]
        return [*tasks, asyncio.create_task(self._renew_tokens())]

    async def _plan(self, spec: Mapping[str, Any]) -> Container:
        values: dict[tuple[str, str], Mapping[str, str]] = {}
        for variable in spec.get("env", ()):
            source = variable.get("valueFrom", {})
            for kind, reference in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if reference in source:
                    values[kind, source[reference]["name"]] = await self._read(kind, source[reference]["name"])
        plan = plan_container(
            self.pod, spec, self._place, self._folder, lambda kind, name, key: values[kind, name].get(key)
        )
        environment = {
            **self._variables(self.pod["metadata"]["namespace"], self.pod["spec"].get("enableServiceLinks", True)),
            **({"KUBECONFIG": str(self._folder / "kubeconfig")} if self._has_account else {}),
            launcher.ADDRESS: self._place.pod_ip,
            "TMPDIR": str(plan.mounts.get("/tmp", self._folder)),  # noqa: S108 - a mount path
        }
        return Container(
            plan,
            spec,
            host=self._place.listen_ip,
            environment=environment,
            folder=self._folder,
            changed=self._changed,
        )

    async def _read(self, kind: str, name: str) -> Mapping[str, str]:
        """Return the keys of a Secret or ConfigMap, none if it does not exist."""
        try:
            found = await self._client.get(_KINDS[kind], name, namespace=self.pod["metadata"]["namespace"])
        except NotFound:
            return {}
        data: Mapping[str, str] = found.get("data") or {}
        return {key: base64.b64decode(text).decode() for key, text in data.items()} if kind == "Secret" else data

    # ------------------------------------------------------------------------------------------------ volumes

    async def _make_volumes(self) -> None:
        """Create a folder for each volume, and write tokens, Secrets, ConfigMaps and the kubeconfig of the account."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for volume in self.pod["spec"].get("volumes", ()):
            target = self._folder / "volumes" / volume["name"]
            if "hostPath" in volume:
                _link(target, self._folder.parent / "host" / volume["hostPath"]["path"].strip("/"))
                continue
            target.mkdir(parents=True, exist_ok=True)
            for kind, source, name in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
                if source in volume:
                    for key, text in (await self._read(kind, volume[source][name])).items():
                        _write(target / key, text)
        await self._write_tokens()

    async def _write_tokens(self) -> None:
        """Write the projected tokens, and the token of the pod's account if it is mounted, with a kubeconfig for it."""
        for volume in self.pod["spec"].get("volumes", ()):
            for source in volume.get("projected", {}).get("sources", ()):
                if "serviceAccountToken" in source:
                    asked = source["serviceAccountToken"]
                    token = await self._request_token(asked.get("audience", ""))
                    _write(self._folder / "volumes" / volume["name"] / asked["path"], token)
        if self._has_account:
            _write(self._folder / "account-token", await self._request_token(""))
            user = {"name": "pod", "user": {"tokenFile": str(self._folder / "account-token")}}
            cluster = {"server": self._server, "certificate-authority": str(self._authority)}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "process", "cluster": cluster}],
                "users": [user],
                "contexts": [{"name": "pod", "context": {"cluster": "process", "user": "pod"}}],
                "current-context": "pod",
            }
            _write(self._folder / "kubeconfig", yaml.safe_dump(config))

    async def _request_token(self, audience: str) -> str:
        """Return a token of the pod's account that is bound to the pod, as the kubelet requests it."""
        meta = self.pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        spec = {
            "expirationSeconds": _TOKEN_LIFE_S,
            "boundObjectRef": bound,
            "audiences": [audience] if audience else [],
        }
        account = {"name": self.pod["spec"].get("serviceAccountName", "default"), "namespace": meta["namespace"]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": account, "spec": spec}
        made = await self._client.create(SERVICE_ACCOUNTS, body, subresource="token")
        return str(made["status"]["token"])

    async def _renew_tokens(self) -> None:
        """Renew all tokens after half of their life; a failure is retried."""
        pause_s = _TOKEN_LIFE_S / 2
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self._write_tokens()
                pause_s = _TOKEN_LIFE_S / 2
            except ApiError as error:
                log.warning("pod %s: cannot renew its tokens: %s", self.key, error)
                pause_s = _RETRY_S

    # ------------------------------------------------------------------------------------------------ status, end

    async def _report(self) -> None:
        place = self._place
        status = pod_status.report(
            self.pod, self._states, pod_ip=place.pod_ip, host_ip=place.host_ip, started_at=self._started_at
        )
        if status == {key: self.pod.get("status", {}).get(key) for key in status}:
            return
        meta = self.pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        try:
            stored = await self._client.merge(
                PODS, meta["name"], patch, namespace=meta["namespace"], subresource="status"
            )
        except NotFound:
            return  # the watch will tell
        except ApiError as error:
            log.warning("pod %s: cannot write its status: %s", self.key, error)
            self._changed.set()
            await asyncio.sleep(_RETRY_S)
        else:
            self.pod = stored if "deletionTimestamp" not in self.pod["metadata"] else self.pod

    async def _stop(self, tasks: list[asyncio.Task[None]], *, grace_s: float | None = None) -> None:
        asked = self.pod["metadata"].get("deletionGracePeriodSeconds", 30)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()
        grace = asked if grace_s is None else grace_s
        await asyncio.gather(*(container.stop(grace) for container in self._containers))

    async def _delete(self) -> None:
        """Confirm the deletion, as the kubelet does once all containers have ended."""
        meta = self.pod["metadata"]
        with contextlib.suppress(NotFound):
            await self._client.delete(PODS, meta["name"], namespace=meta["namespace"], uid=meta["uid"], grace_s=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _record(self, reason: str, message: str) -> None:
        """Create an Event of the pod; one that cannot be written is dropped."""
        meta, now = self.pod["metadata"], format_timestamp(time.time())
        reference = {"apiVersion": "v1", "kind": "Pod", **{k: meta[k] for k in ("name", "namespace", "uid")}}
        event = {
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta["namespace"]},
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "type": "Warning",
            "source": {"component": "maleo-process", "host": self._place.node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with contextlib.suppress(ApiError):
            await self._client.create(EVENTS, event)


def _write(file: Path, text: str) -> None:
    """Replace a file at once, readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def _link(target: Path, folder: Path) -> None:
    """Make `target` a link to a folder of the node that outlives the pod."""
    folder.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(folder)
