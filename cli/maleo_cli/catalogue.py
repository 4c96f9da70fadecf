"""The catalogue page from the profiles: `python -m maleo_cli.catalogue (--write | --check)`, in the project's folder.

It invents nothing: what a profile has no row for is printed as unknown.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

from maleo_api.device import ComputeUnit, DeviceProfile, Memory
from maleo_api.manifests import load

PROFILES: Final = Path("charts/maleo/profiles")
PAGE: Final = Path("docs/catalogue.md")
SURVEY: Final = "maleo.dev/survey-product"
NOTE: Final = "maleo.dev/note"
LEFT_OUT: Final = "maleo.dev/left-out"
_INTRO: Final = """\
# Hardware catalogue

Generated from `charts/maleo/profiles` by `python -m maleo_cli.catalogue --write`; do not edit.

One DeviceProfile for each class of hardware; the chart installs them (`kubectl get deviceprofiles`). Every figure has a
basis and a source. Rows that conflict stand side by side: planning takes the first of the strongest basis (Measured,
Calibrated, Modelled, Datasheet, Claimed, Simulated, Declared). What nobody states is unknown, and unknown never beats a
known figure. A claimed figure is a prior: a ModelProfile with measured spans replaces it.
"""


def render(profiles: Mapping[str, DeviceProfile]) -> str:
    """The page; vendors of the survey first, in the order of their names."""
    ordered = sorted(
        profiles.items(), key=lambda item: (item[1].spec.vendor not in _survey_vendors(profiles), *_key(item))
    )
    lines = [_INTRO, *_summary(profiles), "", "## Products of the survey", "", *_survey_table(profiles)]
    for vendor, group in groupby(ordered, key=lambda item: item[1].spec.vendor):
        lines += ["", f"## {vendor}"]
        for name, profile in group:
            lines += ["", *_section(name, profile)]
    return "\n".join(lines) + "\n"


def survey_products(profiles: Mapping[str, DeviceProfile]) -> dict[str, list[str]]:
    """The survey's name of a product -> the profiles that stand for it."""
    found: dict[str, list[str]] = {}
    for name, profile in sorted(profiles.items(), key=_key):
        if product := profile.metadata.annotations.get(SURVEY):
            found.setdefault(product, []).append(name)
    return found


def _key(item: tuple[str, DeviceProfile]) -> tuple[str, str]:
    return item[1].spec.vendor.lower(), item[0]


def _survey_vendors(profiles: Mapping[str, DeviceProfile]) -> set[str]:
    return {p.spec.vendor for p in profiles.values() if SURVEY in p.metadata.annotations}


def _summary(profiles: Mapping[str, DeviceProfile]) -> list[str]:
    products, vendors = survey_products(profiles), _survey_vendors(profiles)
    found = f"{len(products)} products of {len(vendors)} vendors"
    return [f"{len(profiles)} profiles. The {found} in the ETRI survey of 2025 are all among them."]


def _survey_table(profiles: Mapping[str, DeviceProfile]) -> Iterator[str]:
    yield "| vendor | product | profiles |"
    yield "| --- | --- | --- |"
    rows = ((profiles[names[0]].spec.vendor, product, names) for product, names in survey_products(profiles).items())
    for vendor, product, names in sorted(rows):
        yield f"| {vendor} | {product} | {', '.join(f'`{name}`' for name in names)} |"


def _section(name: str, profile: DeviceProfile) -> Iterator[str]:
    spec, annotations = profile.spec, profile.metadata.annotations
    yield f"### {spec.product}"
    yield ""
    yield f"`{name}`" + "".join(f"; {part}" for part in (spec.form_factor, _compiler(profile)) if part) + "."
    if note := annotations.get(NOTE):
        yield f"{note[:1].upper()}{note[1:]}."
    yield _detection(profile)
    yield ""
    yield from _figures(profile)
    for unit in spec.compute_units:
        yield ""
        yield _facts(unit)
    if left_out := annotations.get(LEFT_OUT):
        yield ""
        yield "Left out:"
        yield ""
        yield from (f"- {line}" for line in left_out.splitlines())


def _compiler(profile: DeviceProfile) -> str:
    return f"compiled by {profile.spec.compiler}" if profile.spec.compiler else ""


def _detection(profile: DeviceProfile) -> str:
    detection = profile.spec.detection
    ids = {"PCI": detection.pci, "USB": detection.usb, "device tree": detection.device_tree}
    known = [f"{bus} {', '.join(f'`{text}`' for text in texts)}" for bus, texts in ids.items() if texts]
    return f"Found by {'; '.join(known)}." if known else "There is nothing to find it by: a person declares it."


def _figures(profile: DeviceProfile) -> Iterator[str]:
    rows = [row for unit in profile.spec.compute_units for row in _rows(unit)]
    if rows:
        yield "| unit | figure | value | basis | source |"
        yield "| --- | --- | --- | --- | --- |"
        yield from (f"| {' | '.join(row)} |" for row in rows)
    else:
        yield "No figure is known."


def _rows(unit: ComputeUnit) -> Iterator[tuple[str, ...]]:
    for peak in unit.peak:
        precision = peak.precision or "precision not stated"
        sparsity = "" if peak.sparsity == "Dense" else f", {peak.sparsity} sparse"
        yield unit.name, f"peak, {precision}{sparsity}", peak.rate, peak.basis, peak.source
    for efficiency in unit.efficiency:
        yield unit.name, f"share of peak, {efficiency.precision}", efficiency.value, efficiency.basis, efficiency.source
    for memory in unit.memory:
        yield unit.name, f"memory, {memory.kind}", _size(memory), memory.basis, memory.source
    for power in unit.power:
        yield unit.name, f"power, {power.state}", power.value, power.basis, power.source


def _size(memory: Memory) -> str:
    return ", ".join(text for text in (memory.size, memory.bandwidth) if text)


def _facts(unit: ComputeUnit) -> str:
    runtimes = ", ".join(f"{r.name} {r.version}".strip() for r in unit.runtimes) or "none known"
    unknown = [
        what for what, known in (("peak", unit.peak), ("memory", unit.memory), ("power", unit.power)) if not known
    ]
    parts = [f"runtimes {runtimes}"]
    parts += [f"features {', '.join(unit.features)}"] if unit.features else []
    parts += [f"requested as `{unit.access.resource}`"] if unit.access.resource else []
    parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
    return f"Unit `{unit.name}` ({unit.type}): {'; '.join(parts)}."


def main() -> int:
    """Exit code 1: --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m maleo_cli.catalogue", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = render(load([PROFILES]).of(DeviceProfile))
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{PAGE} differs from the profiles: run `python -m maleo_cli.catalogue --write`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
