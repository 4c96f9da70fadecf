"""The committed catalogue: complete, every figure with its source, no hardware taken for two, the page up to date."""

from collections import Counter
from pathlib import Path

import pytest

from maleo_api.device import DeviceProfile
from maleo_api.manifests import load
from maleo_cli.catalogue import PAGE, PROFILES, SURVEY, render, survey_products

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def profiles() -> dict[str, DeviceProfile]:
    return load([_ROOT / PROFILES]).of(DeviceProfile)


def test_catalogue__has_the_nine_vendors_and_twenty_products_of_the_survey(profiles: dict[str, DeviceProfile]) -> None:
    products = survey_products(profiles)
    assert len(products) == 20
    assert {profiles[names[0]].spec.vendor for names in products.values()} == {
        "NVIDIA", "Hailo", "EdgeCortix", "Kneron", "SiMa.ai", "Mythic", "DEEPX", "Mobilint", "AiM Future",
    }  # fmt: skip


def test_catalogue__has_one_file_for_each_profile_named_as_it(profiles: dict[str, DeviceProfile]) -> None:
    assert {path.stem for path in (_ROOT / PROFILES).iterdir()} == set(profiles)


def test_figures__all_have_a_source(profiles: dict[str, DeviceProfile]) -> None:
    without = [
        (name, row)
        for name, profile in profiles.items()
        for unit in profile.spec.compute_units
        for row in (*unit.peak, *unit.efficiency, *unit.memory, *unit.power)
        if not row.source
    ]
    assert without == []


@pytest.mark.parametrize("bus", ["pci", "usb", "device_tree"])
def test_ids__name_one_profile_each(bus: str, profiles: dict[str, DeviceProfile]) -> None:
    ids = Counter(text.lower() for p in profiles.values() for text in getattr(p.spec.detection, bus))
    assert [text for text, count in ids.items() if count > 1] == []
    assert ids


def test_conflicting_figures__stand_side_by_side(profiles: dict[str, DeviceProfile]) -> None:
    (unit,) = profiles["hailo-8"].spec.compute_units
    assert [(row.value, row.basis) for row in unit.power if row.state == "Peak"] == [
        ("8.65W", "Claimed"),
        ("3.5W", "Claimed"),
    ]
    (unit,) = profiles["kneron-kl720"].spec.compute_units
    assert [(row.precision, row.rate) for row in unit.peak] == [("int8", "1.4TOPS"), (None, "1TOPS")]


def test_page__is_up_to_date(profiles: dict[str, DeviceProfile]) -> None:
    page = (_ROOT / PAGE).read_text(encoding="utf-8")
    assert page == render(profiles), "run `python -m maleo_cli.catalogue --write`"


def test_page__says_what_is_unknown_and_what_was_left_out_and_why() -> None:
    profile = DeviceProfile.model_validate(
        {
            "metadata": {"name": "a", "annotations": {SURVEY: "A", "maleo.dev/left-out": "power 9W: a typing error"}},
            "spec": {
                "vendor": "V",
                "product": "A one",
                "computeUnits": [
                    {"name": "npu", "type": "NPU", "peak": [{"rate": "1TOPS", "basis": "Claimed", "source": "a page"}]}
                ],
            },
        }
    )
    page = render({"a": profile})
    assert "| npu | peak, precision not stated | 1TOPS | Claimed | a page |" in page
    assert "unknown: memory, power" in page
    assert "- power 9W: a typing error" in page
    assert "There is nothing to find it by" in page
