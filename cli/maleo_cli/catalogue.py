"""Generate or check the catalogue page: `python -m maleo_cli.catalogue (--write | --check)`, in the project's folder.

Values that a profile does not state are printed as unknown.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from maleo_api.device import ComputeUnit, DeviceProfile, Memory, Runtime
from maleo_api.manifests import load

PROFILES: Final = Path("charts/maleo/profiles")
PAGE: Final = Path("docs/catalogue.md")
SURVEY: Final = "maleo.dev/survey-product"
NOTE: Final = "maleo.dev/note"
LEFT_OUT: Final = "maleo.dev/left-out"
_INTRO: Final = """\
# Hardware catalogue

Generated from `charts/maleo/profiles` by `python -m maleo_cli.catalogue --write`; do not edit.

One DeviceProfile for each class of hardware; the chart installs them (`kubectl get deviceprofiles`). Every value has
a basis and a source. Conflicting values are all listed: planning uses the first one with the strongest basis
(Measured, Calibrated, Modelled, Datasheet, Claimed, Simulated, Declared). Values that no source states are unknown,
and an unknown value never ranks above a known one. A claimed value is a prior: a ModelProfile with measured spans
replaces it. A value stated for a power mode applies only in that mode; energy is planned with the typical power.
Features are those claimed in the survey's hardware table; operating systems are those for which a source names a
driver.
"""


def render(profiles: Mapping[str, DeviceProfile]) -> str:
    """Return the catalogue page, vendors of the survey first, vendors by name."""
    ordered = sorted(
        profiles.items(), key=lambda item: (item[1].spec.vendor not in _survey_vendors(profiles), *_key(item))
    )
    lines = [
        _INTRO,
        *_summary(profiles),
        *_never_stated(profiles),
        "",
        "## Products of the survey",
        "",
        *_survey_table(profiles),
    ]
    for vendor, group in groupby(ordered, key=lambda item: item[1].spec.vendor):
        lines += ["", f"## {vendor}"]
        for name, profile in group:
            lines += ["", *_section(name, profile)]
    return "\n".join(lines) + "\n"


def survey_products(profiles: Mapping[str, DeviceProfile]) -> dict[str, list[str]]:
    """Return product name in the survey -> names of the profiles that represent the product."""
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
    return [f"{len(profiles)} profiles, including all {found} of the ETRI survey of 2025."]


def _never_stated(profiles: Mapping[str, DeviceProfile]) -> Iterator[str]:
    """Yield a line on kinds of figures that no profile states, so that not every profile repeats them."""
    specs = [profile.spec for profile in profiles.values()]
    units = [unit for spec in specs for unit in spec.compute_units]
    known = {
        "price": any(spec.price for spec in specs),
        "target application": any(spec.targets for spec in specs),
        "reconfiguration time": any(unit.reconfiguration for unit in units),
        "analogue tolerance": any(unit.accuracy_tolerance for unit in units),
        "cost of writing weights": any(unit.weight_writing for unit in units),
    }
    missing = [name for name, stated in known.items() if not stated]
    if missing:
        yield f"Not stated by any source for any profile: {', '.join(missing)}."


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
    yield f"Operating systems: {', '.join(spec.os)}." if spec.os else "Operating systems: unknown."
    if spec.targets:
        yield f"Target applications: {', '.join(spec.targets)}."
    yield ""
    yield from _figures(profile)
    for unit in spec.compute_units:
        yield ""
        yield _facts(unit)
    if left_out := annotations.get(LEFT_OUT):
        yield ""
        yield "Values left out:"
        yield ""
        yield from (f"- {line}" for line in left_out.splitlines())


def _compiler(profile: DeviceProfile) -> str:
    if profile.spec.compiler:
        return f"compiled by {profile.spec.compiler}"
    return "compiler unknown" if any(unit.type == "NPU" for unit in profile.spec.compute_units) else ""


def _detection(profile: DeviceProfile) -> str:
    detection = profile.spec.detection
    ids = {"PCI": detection.pci, "USB": detection.usb, "device tree": detection.device_tree}
    ids_by_bus = [f"{bus} {_names(texts)}" for bus, texts in ids.items() if texts]
    nodes = f" Device nodes: {_names(detection.device_nodes)}." if detection.device_nodes else ""
    found = (
        f"Detected by {'; '.join(ids_by_bus)}."
        if ids_by_bus
        else "Not detectable: declare it in `spec.declared` of the Device."
    )
    return found + nodes


def _names(texts: Sequence[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _figures(profile: DeviceProfile) -> Iterator[str]:
    rows = [row for unit in profile.spec.compute_units for row in _rows(unit)]
    rows += [("device", "price", price.value, price.basis, price.source) for price in profile.spec.price]
    if rows:
        yield "| unit | quantity | value | basis | source |"
        yield "| --- | --- | --- | --- | --- |"
        yield from (f"| {' | '.join(row)} |" for row in rows)
    else:
        yield "No values are known."


def _rows(unit: ComputeUnit) -> Iterator[tuple[str, ...]]:
    for peak in unit.peak:
        what = f"peak, {peak.precision or 'precision not stated'}{_sparse(peak.sparsity)}{_mode(peak.power_mode)}"
        yield unit.name, what, peak.rate, peak.basis, peak.source
    for share in unit.efficiency:
        what = f"share of peak, {share.precision}{_sparse(share.sparsity)}"
        yield unit.name, what, share.value, share.basis, share.source
    for memory in unit.memory:
        yield unit.name, f"memory, {memory.kind}{_mode(memory.power_mode)}", _size(memory), memory.basis, memory.source
    for power in unit.power:
        yield unit.name, f"power, {power.state}{_mode(power.power_mode)}", power.value, power.basis, power.source
    for change in unit.reconfiguration:
        yield unit.name, "reconfiguration", change.time, change.basis, change.source
    for tolerance in unit.accuracy_tolerance:
        yield unit.name, "accuracy tolerance", tolerance.value, tolerance.basis, tolerance.source
    for writing in unit.weight_writing:
        per_byte = f"{writing.energy_per_byte} per byte" if writing.energy_per_byte else None
        value = ", ".join(text for text in (writing.throughput, per_byte) if text)
        yield unit.name, "writing weights", value, writing.basis, writing.source


def _sparse(sparsity: str) -> str:
    return "" if sparsity == "Dense" else f", {sparsity} sparsity"


def _mode(mode: str) -> str:
    return f", in power mode {mode}" if mode else ""


def _size(memory: Memory) -> str:
    return ", ".join(text for text in (memory.size, memory.bandwidth) if text)


def _facts(unit: ComputeUnit) -> str:
    parts = [f"runtimes {', '.join(_runtime(r) for r in unit.runtimes) or 'none known'}"]
    parts += [f"features {', '.join(unit.features)}"] if unit.features else []
    parts += [f"resource `{unit.access.resource}`"] if unit.access.resource else []
    parts += [f"unknown: {', '.join(unknown)}"] if (unknown := list(_unknown(unit))) else []
    return f"Unit `{unit.name}` ({unit.type}): {'; '.join(parts)}."


def _runtime(runtime: Runtime) -> str:
    formats = ", ".join(runtime.formats) or "unknown formats"
    back_ends = f" with {', '.join(runtime.providers)}" if runtime.providers else ""
    return f"{runtime.name} {runtime.version}".strip() + f" ({formats}{back_ends})"


def _unknown(unit: ComputeUnit) -> Iterator[str]:
    """Yield the names of figures that planning would use and that the unit does not state."""
    stated = {
        "peak": any(row.precision for row in unit.peak),
        "memory": any(row.size for row in unit.memory),
        "bandwidth": any(row.bandwidth for row in unit.memory),
        "typical power": any(row.state == "Typical" for row in unit.power),
        "reconfiguration time": bool(unit.reconfiguration) or "Reconfigurable" not in unit.features,
        "accuracy tolerance": bool(unit.accuracy_tolerance) or "Analog" not in unit.features,
        "cost of writing weights": bool(unit.weight_writing) or "Analog" not in unit.features,
    }
    yield from (name for name, known in stated.items() if not known)


def main() -> int:
    """Write or check the page; return exit code 1 if --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m maleo_cli.catalogue", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = render(load([PROFILES]).of(DeviceProfile))
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{PAGE} is out of date: run `python -m maleo_cli.catalogue --write`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
