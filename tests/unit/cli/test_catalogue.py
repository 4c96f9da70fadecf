"""The committed catalogue: complete, with a source for every figure, unique hardware ids, and an up-to-date page."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from maleo_api.device import ComputeUnit, DeviceProfile
from maleo_api.manifests import load
from maleo_cli.catalogue import LEFT_OUT, NOTE, PAGE, PROFILES, SURVEY, render, survey_products
from support.paths import ROOT

_PRODUCTS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "survey_products.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def profiles() -> dict[str, DeviceProfile]:
    return load([ROOT / PROFILES]).of(DeviceProfile)


def test_catalogue__has_the_nine_vendors_and_twenty_products_of_the_survey(profiles: dict[str, DeviceProfile]) -> None:
    products = survey_products(profiles)
    assert (len(products), len({profiles[names[0]].spec.vendor for names in products.values()})) == (20, 9)
    assert {name: sorted(found) for name, found in products.items()} == {
        name: sorted(product["profiles"]) for name, product in _PRODUCTS.items()
    }


@pytest.mark.parametrize("product", _PRODUCTS)
def test_product_of_the_survey__has_the_figures_that_were_found_and_no_others(
    product: str, profiles: dict[str, DeviceProfile]
) -> None:
    for name, want in _PRODUCTS[product]["profiles"].items():
        spec = profiles[name].spec
        assert spec.vendor == _PRODUCTS[product]["vendor"]
        units = [unit for unit in spec.compute_units if unit.type != "CPU"]  # a processor has Maleo's prior only
        assert _figures(units) == want
        assert all(unit.runtimes for unit in units) or "no public driver" in profiles[name].metadata.annotations[NOTE]
        page = render({name: profiles[name]})
        for figure, row in (("peak", "int|fp|bf"), ("memory", "OnChip|Dedicated|Shared"), ("typical power", "Typical")):
            stated = any(re.match(row, text) for text in want[figure.split()[-1]])
            assert stated or re.search(rf"unknown: .*{figure}", page), figure


def _figures(units: list[ComputeUnit]) -> dict[str, list[str]]:
    def mode(row: Any) -> str:
        return f" in {row.power_mode}" if row.power_mode else ""

    sizes = [f"{m.kind} {m.size}, {m.basis}" for unit in units for m in unit.memory if m.size]
    return {
        "peak": [
            f"{p.precision or 'unstated'} {f'{p.sparsity} '.removeprefix('Dense ')}{p.rate}{mode(p)}, {p.basis}"
            for unit in units
            for p in unit.peak
        ],
        "memory": sizes + [f"{m.bandwidth}{mode(m)}, {m.basis}" for unit in units for m in unit.memory if m.bandwidth],
        "power": [f"{p.state} {p.value}{mode(p)}, {p.basis}" for unit in units for p in unit.power],
        "features": [feature for unit in units for feature in unit.features],
    }


def test_catalogue__has_one_file_named_after_each_profile(profiles: dict[str, DeviceProfile]) -> None:
    assert {path.stem for path in (ROOT / PROFILES).iterdir()} == set(profiles)


def test_figures__all_have_a_source(profiles: dict[str, DeviceProfile]) -> None:
    without = [
        (name, row)
        for name, profile in profiles.items()
        for unit in profile.spec.compute_units
        for row in (
            *(*unit.peak, *unit.efficiency, *unit.memory, *unit.power),
            *(*unit.reconfiguration, *unit.accuracy_tolerance, *profile.spec.price),
        )
        if not row.source or row.basis == "Unknown"  # what is unknown has no row
    ]
    assert without == []


def test_omitted_figures__all_have_a_reason(profiles: dict[str, DeviceProfile]) -> None:
    lines = [text for p in profiles.values() for text in p.metadata.annotations.get(LEFT_OUT, "").splitlines()]
    assert lines
    assert [line for line in lines if ": " not in line] == []


@pytest.mark.parametrize("bus", ["pci", "usb", "device_tree"])
def test_ids__name_one_profile_each(bus: str, profiles: dict[str, DeviceProfile]) -> None:
    ids = Counter(text.lower() for p in profiles.values() for text in getattr(p.spec.detection, bus))
    assert [text for text, count in ids.items() if count > 1] == []
    assert ids


def test_conflicting_figures__are_all_listed(profiles: dict[str, DeviceProfile]) -> None:
    (unit,) = profiles["hailo-8"].spec.compute_units
    assert [(row.value, row.basis) for row in unit.power if row.state == "Peak"] == [
        ("8.65W", "Claimed"),
        ("3.5W", "Claimed"),
    ]
    (unit,) = profiles["kneron-kl720"].spec.compute_units
    assert [(row.precision, row.rate) for row in unit.peak] == [("int8", "1.4TOPS"), (None, "1TOPS")]


def test_page__is_up_to_date(profiles: dict[str, DeviceProfile]) -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == render(profiles), "run `python -m maleo_cli.catalogue --write`"


def test_page__lists_unknown_figures_and_omitted_ones_with_the_reason() -> None:
    profile = DeviceProfile.model_validate(
        {
            "metadata": {"name": "a", "annotations": {SURVEY: "A", "maleo.dev/left-out": "power 9W: a typing error"}},
            "spec": {
                "vendor": "V",
                "product": "A one",
                "computeUnits": [
                    {
                        "name": "npu",
                        "type": "NPU",
                        "peak": [{"rate": "1TOPS", "basis": "Claimed", "source": "a page"}],
                        "features": ["Analog", "Reconfigurable"],
                    }
                ],
            },
        }
    )
    page = render({"a": profile})
    assert "| npu | peak, precision not stated | 1TOPS | Claimed | a page |" in page
    assert "unknown: peak, memory, bandwidth, typical power, reconfiguration time, accuracy tolerance, " in page
    assert "cost of writing weights." in page
    assert "for any profile: price, target application, reconfiguration time, analogue tolerance, " in page
    assert ", cost of writing weights." in page
    assert "- power 9W: a typing error" in page
    assert "Not detectable: declare it" in page
    assert "Operating systems: unknown." in page
    assert "`a`; compiler unknown." in page


def test_page__prints_every_kind_of_figure_with_its_basis_and_source() -> None:
    provenance = {"basis": "Claimed", "source": "a page"}
    unit = {
        "name": "npu",
        "type": "NPU",
        "peak": [{"precision": "int8", "sparsity": "2:4", "rate": "2TOPS", "powerMode": "super"} | provenance],
        "efficiency": [{"precision": "int8", "sparsity": "2:4", "value": "20%"} | provenance],
        "memory": [{"kind": "Shared", "size": "1Gi", "bandwidth": "9GB/s"} | provenance],
        "power": [{"state": "Typical", "value": "3W", "powerMode": "super"} | provenance],
        "reconfiguration": [{"time": "200ms"} | provenance],
        "accuracyTolerance": [{"value": "1%"} | provenance],
        "weightWriting": [{"throughput": "2MB/s", "energyPerByte": "3uJ"} | provenance],
        "runtimes": [
            {"name": "onnxruntime", "version": "1.17", "formats": ["onnx"], "providers": ["QNNExecutionProvider"]},
            {"name": "qnn", "formats": []},
        ],
    }
    spec = {"vendor": "V", "product": "P", "os": ["Linux"], "targets": ["camera"], "computeUnits": [unit]}
    body = {"metadata": {"name": "a"}, "spec": spec | {"price": [{"value": "69USD"} | provenance]}}
    page = render({"a": DeviceProfile.model_validate(body)})
    for row in (
        "npu | peak, int8, 2:4 sparsity, in power mode super | 2TOPS",
        "npu | share of peak, int8, 2:4 sparsity | 20%",
        "npu | memory, Shared | 1Gi, 9GB/s",
        "npu | power, Typical, in power mode super | 3W",
        "npu | reconfiguration | 200ms",
        "npu | accuracy tolerance | 1%",
        "npu | writing weights | 2MB/s, 3uJ per byte",
        "device | price | 69USD",
    ):
        assert f"| {row} | Claimed | a page |" in page
    assert "runtimes onnxruntime 1.17 (onnx with QNNExecutionProvider), qnn (unknown formats)." in page
    assert "Operating systems: Linux." in page
    assert "Target applications: camera." in page
    assert "Not stated by any source" not in page
