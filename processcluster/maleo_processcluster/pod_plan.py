"""Plan of a pod's container as a local process: program, environment, folders, and what cannot be honoured. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from maleo_api.quantities import BYTES, parse
from maleo_kube.answers import Object


@dataclass(frozen=True, slots=True)
class Program:
    """What an image runs. defaults: variables for paths in the container that the program has as its defaults."""

    module: str
    defaults: Mapping[str, str] = field(default_factory=dict)


PROGRAMS: Final = {
    "operator": Program("maleo_operator.main"),
    "agent": Program("maleo_agent.main", {"MALEO_TOKEN_FILE": "/var/run/secrets/maleo/token"}),
    "slot": Program("maleo_runtime.main"),
}
"""Last component of an image's name -> program."""
IMAGES: Final = {component: f"maleo-process/{component}:local" for component in PROGRAMS}
"""Component -> image reference for the chart. Nothing is pulled: the reference only selects the module."""

_VARIABLE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")

ReadKey = Callable[[str, str, str], str | None]
"""Function of `Secret` or `ConfigMap`, name and key that returns the value, None if it does not exist."""


class NotRunnable(Exception):
    """The container cannot run here. reason: as the kubelet names it, such as `ErrImageNeverPull`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Place:
    """Identity and addresses of a pod, which its environment may refer to.

    listen_ip: loopback address at which its programs listen for `pod_ip`.
    """

    node: str
    pod_ip: str
    host_ip: str
    listen_ip: str


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """Local process of a container.

    mounts: mount path -> folder of the volume. `memory_limit`: bytes, None without a limit. `ignored`: fields of the
    pod that a process without privileges and without a container runtime cannot honour.
    """

    name: str
    module: str
    environment: Mapping[str, str]
    mounts: Mapping[str, Path]
    memory_limit: float | None
    ignored: tuple[str, ...]

    def translate(self, text: str) -> str:
        """Return `text` with a path below a mount replaced by the local path of the volume."""
        for path in sorted(self.mounts, key=len, reverse=True):
            if text == path or text.startswith(f"{path}/"):
                return str(self.mounts[path]) + text[len(path) :]
        return text


def plan_container(
    pod: Object, container: Mapping[str, Any], place: Place, folder: Path, read_key: ReadKey
) -> ContainerPlan:
    """Return the local process of a container.

    Raise NotRunnable if its image is unknown, if a required key is missing, or if it asks for what would run another
    program than the image does.

    Args:
        pod: Pod of the container.
        container: Entry of `spec.containers`.
        place: Node and addresses of the pod.
        folder: Folder of the pod on this machine; volumes are folders in `volumes`.
        read_key: Reads the Secrets and ConfigMaps of the pod's namespace.
    """
    if unknown := find_unsupported(pod, container):
        raise NotRunnable("CreateContainerError", f"process nodes do not support {unknown}")
    mounts = {m["mountPath"]: folder / "volumes" / m["name"] for m in container.get("volumeMounts", ())}
    program = find_program(container["image"])
    limit = container.get("resources", {}).get("limits", {}).get("memory")
    plan = ContainerPlan(
        name=container["name"],
        module=program.module,
        environment={},
        mounts=mounts,
        memory_limit=parse(BYTES, limit) if limit is not None else None,
        ignored=find_ignored(pod, container),
    )
    environment = {name: plan.translate(path) for name, path in program.defaults.items()}
    for variable in container.get("env", ()):
        value = _resolve(variable, pod, container, place, read_key)
        if value is not None:
            text = _VARIABLE.sub(lambda match: environment.get(match[1], match[0]), value)
            environment[variable["name"]] = plan.translate(text)
    return replace(plan, environment=environment)


def find_unsupported(pod: Object, container: Mapping[str, Any]) -> str:
    """Return the first field without which another program would run; empty if there is none."""
    fields = {
        "initContainers": pod["spec"].get("initContainers"),
        "command": container.get("command"),
        "args": container.get("args"),
        "envFrom": container.get("envFrom"),
        "volumeMounts.subPath": any("subPath" in mount for mount in container.get("volumeMounts", ())),
    }
    return next((name for name, value in fields.items() if value), "")


def find_program(image: str) -> Program:
    """Return the program of an image. Raise NotRunnable for an unknown image."""
    component = image.rpartition("/")[2].partition(":")[0].partition("@")[0]
    if component not in PROGRAMS or image != IMAGES[component]:
        known = ", ".join(IMAGES.values())
        raise NotRunnable("ErrImageNeverPull", f"image {image}: process nodes run only {known}")
    return PROGRAMS[component]


def find_ignored(pod: Object, container: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the process cannot honour, as `field: consequence`."""
    spec, security = pod["spec"], container.get("securityContext", {})
    ignored = []
    if security.get("privileged"):
        ignored.append("securityContext.privileged: the process has the rights of this user")
    if "runAsUser" in {**spec.get("securityContext", {}), **security}:
        ignored.append("securityContext.runAsUser: the process runs as this user")
    ignored += [
        f"volumes[{volume['name']}].hostPath: a folder of the node is used in its place"
        for volume in spec.get("volumes", ())
        if "hostPath" in volume
    ]
    limits = container.get("resources", {}).get("limits", {})
    ignored += [f"resources.limits.{name}: not enforced" for name in limits if name != "memory"]
    ignored += [f"{name}: not run" for name in ("startupProbe", "lifecycle") if name in container]
    ignored += [
        f"{name}: only httpGet is supported"
        for name in ("readinessProbe", "livenessProbe")
        if "httpGet" not in container.get(name, {"httpGet": {}})
    ]
    return tuple(ignored)


def _resolve(
    variable: Mapping[str, Any], pod: Object, container: Mapping[str, Any], place: Place, read_key: ReadKey
) -> str | None:
    """Return the value of a variable, None for an optional key that does not exist."""
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        return _field(source["fieldRef"]["fieldPath"], pod, place)
    if "resourceFieldRef" in source:
        kind, _, resource = source["resourceFieldRef"]["resource"].partition(".")
        return str(container.get("resources", {}).get(kind, {}).get(resource, "0"))
    kind, reference = ("Secret", "secretKeyRef") if "secretKeyRef" in source else ("ConfigMap", "configMapKeyRef")
    asked = source[reference]
    value = read_key(kind, asked["name"], asked["key"])
    if value is None and not asked.get("optional", False):
        message = f"{kind} {asked['name']} has no key {asked['key']}, which variable {variable['name']} requires"
        raise NotRunnable("CreateContainerConfigError", message)
    return value


def _field(path: str, pod: Object, place: Place) -> str:
    """Return the value of a downward API field. Raise NotRunnable for one that is not supported."""
    meta = pod["metadata"]
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": place.node,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": place.pod_ip,
        "status.hostIP": place.host_ip,
    }
    if path not in known:
        raise NotRunnable("CreateContainerConfigError", f"fieldRef {path} is not supported on process nodes")
    return str(known[path])
