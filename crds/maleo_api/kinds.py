"""Registry of the kinds of group maleo.dev with their API names."""

from dataclasses import dataclass
from typing import Final

from maleo_api.device import Device, DeviceProfile, Link
from maleo_api.meta import Resource
from maleo_api.mission import Mission
from maleo_api.model import Model, ModelProfile
from maleo_api.placement import Placement


@dataclass(frozen=True, slots=True)
class KindInfo:
    """One kind: its model, its plural and short names, and its scope."""

    model: type[Resource]
    plural: str
    short: str
    namespaced: bool

    @property
    def kind(self) -> str:
        """Return the name of the kind."""
        return self.model.__name__


KINDS: Final = {
    info.kind: info
    for info in (
        KindInfo(DeviceProfile, "deviceprofiles", "dp", namespaced=False),
        KindInfo(Device, "devices", "dev", namespaced=False),
        KindInfo(Link, "links", "lnk", namespaced=False),
        KindInfo(Model, "models", "mdl", namespaced=True),
        KindInfo(ModelProfile, "modelprofiles", "mp", namespaced=True),
        KindInfo(Mission, "missions", "msn", namespaced=True),
        KindInfo(Placement, "placements", "plc", namespaced=True),
    )
}
