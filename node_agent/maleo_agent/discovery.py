"""Hardware discovery from /sys and /proc: matches bus ids with the catalogue, and adds declared hardware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from maleo_api.device import Accelerator, Device, DeviceProfile, HostInventory, Inventory

_HOST: Final = "host-cpu"


@dataclass(frozen=True, slots=True)
class Buses:
    """Addresses of devices by `vendor:device` in lower case, and the device tree's compatible strings."""

    pci: Mapping[str, list[str]]
    usb: Mapping[str, list[str]]
    compatible: tuple[str, ...]

    @classmethod
    def read(cls, root: Path = Path("/")) -> "Buses":
        """Read the addresses below `root`, the root of the host's file system."""
        tree = root / "proc/device-tree/compatible"
        strings = tree.read_bytes().split(b"\0") if tree.exists() else []
        return cls(
            pci=_ids(root / "sys/bus/pci/devices", "vendor", "device"),
            usb=_ids(root / "sys/bus/usb/devices", "idVendor", "idProduct"),
            compatible=tuple(s.decode(errors="replace") for s in strings if s),
        )


def build_inventory(buses: Buses, profiles: Mapping[str, DeviceProfile], device: Device | None) -> Inventory:
    """Return the inventory: declared hardware, then discovered hardware of other profiles.

    A simulated declaration does not hide discovered hardware of its profile. A host that matches
    no profile has profile `host-cpu`.
    """
    declared = [
        Accelerator(name=d.name, profile=d.profile, simulated=d.simulated)
        for d in (device.spec.declared if device else ())
        if d.name != "host"
    ]
    detected = [
        Accelerator(name=f"{name}-{number}", profile=name, address=address)
        for name, profile in sorted(profiles.items())
        for number, address in enumerate(_addresses(buses, profile))
    ]
    names = {a.profile for a in declared if not a.simulated}
    host = next((d for d in (device.spec.declared if device else ()) if d.name == "host"), None)
    return Inventory(
        host=HostInventory(profile=host.profile if host else _host_profile(buses, profiles)),
        accelerators=[*declared, *(a for a in detected if a.profile not in names)],
        simulated=any(a.simulated for a in declared) or (host.simulated if host else False),
    )


def _addresses(buses: Buses, profile: DeviceProfile) -> list[str]:
    detection = profile.spec.detection
    return [*_matching(buses.pci, detection.pci), *_matching(buses.usb, detection.usb)]


def _matching(addresses_by_id: Mapping[str, list[str]], patterns: Sequence[str]) -> list[str]:
    """Return the addresses whose ids match; patterns such as `209f:*` cover vendors that register no device ids."""
    return [
        a
        for ids, addresses in addresses_by_id.items()
        if any(fnmatch(ids, p.lower()) for p in patterns)
        for a in addresses
    ]


def _host_profile(buses: Buses, profiles: Mapping[str, DeviceProfile]) -> str:
    matching = (
        name
        for name, profile in sorted(profiles.items())
        if any(string in buses.compatible for string in profile.spec.detection.device_tree)
    )
    return next(matching, _HOST)


def _ids(folder: Path, vendor: str, device: str) -> dict[str, list[str]]:
    addresses: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*")):
        try:
            ids = [(path / name).read_text(encoding="ascii").strip().removeprefix("0x") for name in (vendor, device)]
        except OSError:
            continue  # a hub, or a function without ids
        addresses.setdefault(":".join(ids).lower(), []).append(path.name)
    return addresses
