"""Static compatibility of a variant with a unit: the first filter of planning, with a code for each kind of mismatch.

An unknown property satisfies no requirement: a runtime without a version, a device without an operating system.
"""

from dataclasses import dataclass
from typing import Final

from maleo_api.device import Runtime
from maleo_api.model import Variant
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.versions import Fit, compare

_VERSIONS: Final[dict[Fit, str]] = {
    "Below": "RuntimeTooOld",
    "Above": "RuntimeTooNew",
    "Unknown": "RuntimeVersionUnknown",
}


NO_PEAK: Final = {"PeakUnknown", "PrecisionUnsupported"}
"""Codes of a peak that is not stated for the variant's precision; `find_mismatch` checks the peak last."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A requirement that is not met.

    code: for programs; what: for people, the requirement and what the unit provides; missing: relative shortfall, of a
    quantity alone.
    """

    code: str
    what: str
    missing: float | None = None


def find_mismatch(variant: Variant, unit: UnitFacts) -> Mismatch | None:
    """Return the first requirement that is not met, None where the variant can run.

    Checked in this order: runtime, its version, format, back end, operating system, features, precision.
    """
    runtime = unit.runtime(variant)
    if runtime is None:
        there = ", ".join(r.name for r in unit.unit.runtimes) or "none"
        return Mismatch("RuntimeUnsupported", f"requires runtime {variant.requires.runtime}, the unit provides {there}")
    return _mismatch_of_runtime(variant, runtime) or _mismatch_of_unit(variant, unit)


def _mismatch_of_runtime(variant: Variant, runtime: Runtime) -> Mismatch | None:
    """Return the first requirement on version, format and back end that the runtime does not meet."""
    needs, formats = variant.requires, [artifact.format for artifact in variant.artifacts]
    fit = compare(runtime.version, needs.version)
    if fit != "Inside":
        there = runtime.version or "an unknown version"
        return Mismatch(_VERSIONS[fit], f"requires {runtime.name} {needs.version}, the unit provides {there}")
    if not set(formats) & set(runtime.formats):
        there = ", ".join(runtime.formats) or "no known format"
        return Mismatch("FormatUnsupported", f"has format {', '.join(formats)}, {runtime.name} supports {there}")
    if needs.providers and not set(needs.providers) & set(runtime.providers):
        there = ", ".join(runtime.providers) or "the CPU only"
        return Mismatch("BackEndMissing", f"requires {' or '.join(needs.providers)}, {runtime.name} provides {there}")
    return None


def _mismatch_of_unit(variant: Variant, unit: UnitFacts) -> Mismatch | None:
    """Return the first requirement on operating system, features and precision that the unit does not meet."""
    needs = variant.requires
    if needs.os and needs.os not in unit.hardware.os:
        there = ", ".join(unit.hardware.os) or "an unknown one"
        return Mismatch("OsUnsupported", f"requires operating system {needs.os}, the device runs {there}")
    lacking = [feature for feature in needs.features if feature not in unit.unit.features]
    if lacking:
        return Mismatch("FeatureMissing", f"requires {', '.join(lacking)}, which the unit does not provide")
    if unit.speed(variant) is None:
        return _mismatch_of_precision(variant, unit)
    return None


def _mismatch_of_precision(variant: Variant, unit: UnitFacts) -> Mismatch:
    """Return why no peak applies: none is stated for the sparsity, none at all, or none for the precision."""
    peaks = unit.unit.peak
    sparse = sorted({p.sparsity for p in peaks if p.precision == variant.precision})
    if sparse:
        declared_for = f"the unit declares a peak for {' and '.join(sparse)} {variant.precision} only"
        return Mismatch("PeakUnknown", f"is {variant.sparsity}, {declared_for}")
    declared = list(dict.fromkeys(p.precision for p in peaks if p.precision))
    if not declared:
        return Mismatch("PeakUnknown", f"is {variant.precision}, the unit declares no peak")
    return Mismatch("PrecisionUnsupported", f"is {variant.precision}, the unit supports {', '.join(declared)}")
