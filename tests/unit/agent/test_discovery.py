"""Detection of hardware on the buses of a node by the catalogue that ships, with fake /sys and /proc roots."""

from pathlib import Path

import pytest

from maleo_agent.discovery import Buses, build_inventory
from maleo_api.device import Device, DeviceProfile
from maleo_api.manifests import load
from support.paths import ROOT

_PROFILES = ROOT / "charts/maleo/profiles"


@pytest.fixture(scope="module")
def profiles() -> dict[str, DeviceProfile]:
    return load([_PROFILES]).of(DeviceProfile)


def _root(folder: Path, *, pci: dict[str, str], usb: dict[str, str], compatible: str) -> Path:
    for bus, names, devices in (("pci", ("vendor", "device"), pci), ("usb", ("idVendor", "idProduct"), usb)):
        for address, ids in devices.items():
            place = folder / f"sys/bus/{bus}/devices/{address}"
            place.mkdir(parents=True)
            for name, text in zip(names, ids.split(":"), strict=True):
                (place / name).write_text(f"0x{text}\n" if bus == "pci" else f"{text}\n", encoding="ascii")
    if compatible:
        (folder / "proc/device-tree").mkdir(parents=True)
        (folder / "proc/device-tree/compatible").write_bytes(compatible.encode() + b"\0")
    return folder


_NODES = {
    "nothing": ({}, {}, "", "host-cpu", []),
    "a Raspberry Pi 5 with a Hailo-8": (
        {"0000:01:00.0": "1e60:2864"}, {}, "raspberrypi,5-model-b\0brcm,bcm2712",
        "raspberry-pi-5", [("hailo-8", "0000:01:00.0")],
    ),
    "a Hailo-10H, not a Hailo-8": ({"0000:01:00.0": "1e60:45c4"}, {}, "", "host-cpu", [("hailo-10h", "0000:01:00.0")]),
    "a vendor without registered device ids": (
        {"0000:02:00.0": "209f:0001"}, {}, "", "host-cpu", [("mobilint-aries", "0000:02:00.0")],
    ),
    "two vendors at once, and an unknown card": (
        {"0000:01:00.0": "1FF4:0100", "0000:03:00.0": "dead:beef"}, {"1-2": "3231:0720"}, "",
        "host-cpu", [("deepx-dx-m1", "0000:01:00.0"), ("kneron-kl720", "1-2")],
    ),
    "a KL730 by its newer id": ({}, {"1-1": "3231:0732"}, "", "host-cpu", [("kneron-kl730", "1-1")]),
    "a Coral stick with its firmware loaded": ({}, {"1-1": "18d1:9302"}, "", "host-cpu", [("google-coral-usb", "1-1")]),
    "a Jetson Orin NX is not an AGX of the same chip": (
        {}, {}, "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0nvidia,tegra234", "jetson-orin-nx-16gb", [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _NODES)
def test_inventory__lists_the_detected_hardware(case: str, tmp_path: Path, profiles: dict[str, DeviceProfile]) -> None:
    pci, usb, compatible, want_host, want = _NODES[case]
    buses = Buses.read(_root(tmp_path, pci=pci, usb=usb, compatible=compatible))
    inventory = build_inventory(buses, profiles, None)
    assert inventory.host.profile == want_host
    assert [(a.profile, a.address) for a in inventory.accelerators] == want
    assert not inventory.simulated


def test_inventory__prefers_declared_to_detected_hardware(tmp_path: Path, profiles: dict[str, DeviceProfile]) -> None:
    buses = Buses.read(_root(tmp_path, pci={"0000:01:00.0": "1e60:2864"}, usb={}, compatible=""))
    device = Device.model_validate(
        {
            "metadata": {"name": "n"},
            "spec": {
                "nodeName": "n",
                "declared": [
                    {"name": "accel", "profile": "hailo-8"},
                    {"name": "ghost", "profile": "mythic-m1076", "simulated": True},
                ],
            },
        }
    )
    inventory = build_inventory(buses, profiles, device)
    assert [(a.name, a.profile, a.simulated) for a in inventory.accelerators] == [
        ("accel", "hailo-8", False),
        ("ghost", "mythic-m1076", True),
    ]
    assert inventory.simulated
