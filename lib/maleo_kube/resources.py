"""Kubernetes kinds that Maleo reads or writes."""

from dataclasses import dataclass
from typing import Final

from maleo_api.meta import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """API coordinates of a kind; `group` is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """Return `group/version`, or `version` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path, across all namespaces if `namespace` is empty."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(parts)


def _maleo_kind(plural: str, kind: str, *, namespaced: bool) -> Kind:
    return Kind(GROUP, VERSION, plural, kind, namespaced)


NODES: Final = Kind("", "v1", "nodes", "Node", namespaced=False)
PODS: Final = Kind("", "v1", "pods", "Pod", namespaced=True)
SERVICES: Final = Kind("", "v1", "services", "Service", namespaced=True)
SECRETS: Final = Kind("", "v1", "secrets", "Secret", namespaced=True)
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap", namespaced=True)
SERVICE_ACCOUNTS: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)
EVENTS: Final = Kind("", "v1", "events", "Event", namespaced=True)
NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
TOKEN_REVIEWS: Final = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
PRIORITY_CLASSES: Final = Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
CRDS: Final = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

DEVICE_PROFILES: Final = _maleo_kind("deviceprofiles", "DeviceProfile", namespaced=False)
DEVICES: Final = _maleo_kind("devices", "Device", namespaced=False)
LINKS: Final = _maleo_kind("links", "Link", namespaced=False)
MODELS: Final = _maleo_kind("models", "Model", namespaced=True)
MODEL_PROFILES: Final = _maleo_kind("modelprofiles", "ModelProfile", namespaced=True)
MISSIONS: Final = _maleo_kind("missions", "Mission", namespaced=True)
PLACEMENTS: Final = _maleo_kind("placements", "Placement", namespaced=True)

MALEO_KINDS: Final = (DEVICE_PROFILES, DEVICES, LINKS, MODELS, MODEL_PROFILES, MISSIONS, PLACEMENTS)
BY_KIND: Final = {
    kind.kind: kind
    for kind in (
        *(NODES, PODS, SERVICES, SECRETS, EVENTS, NAMESPACES, LEASES, TOKEN_REVIEWS, PRIORITY_CLASSES, CRDS),
        *MALEO_KINDS,
    )
}
