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
        return Mismatch("RuntimeUnsupported", f"needs {variant.requires.runtime}, there is {there}")
    return _mismatch_of_runtime(variant, runtime) or _mismatch_of_unit(variant, unit)


def _mismatch_of_runtime(variant: Variant, runtime: Runtime) -> Mismatch | None:
    """Return the first requirement on version, format and back end that the runtime does not meet."""
    needs, formats = variant.requires, [artifact.format for artifact in variant.artifacts]
    fit = compare(runtime.version, needs.version)
    if fit != "Inside":
        there = runtime.version or "of unknown version"
        return Mismatch(_VERSIONS[fit], f"needs {runtime.name} {needs.version}, there is {runtime.name} {there}")
    if not set(formats) & set(runtime.formats):
        there = ", ".join(runtime.formats) or "none that is known"
        return Mismatch("FormatUnsupported", f"is {', '.join(formats)}, {runtime.name} takes {there}")
    if needs.providers and not set(needs.providers) & set(runtime.providers):
        there = ", ".join(runtime.providers) or "the CPU alone"
        return Mismatch("BackEndMissing", f"needs {' or '.join(needs.providers)}, {runtime.name} has {there}")
    return None


def _mismatch_of_unit(variant: Variant, unit: UnitFacts) -> Mismatch | None:
    """Return the first requirement on operating system, features and precision that the unit does not meet."""
    needs = variant.requires
    if needs.os and needs.os not in unit.hardware.os:
        return Mismatch("OsUnsupported", f"needs {needs.os}, there is {', '.join(unit.hardware.os) or 'unknown'}")
    lacking = [feature for feature in needs.features if feature not in unit.unit.features]
    if lacking:
        return Mismatch("FeatureMissing", f"needs {', '.join(lacking)}")
    if unit.speed(variant) is None:
        return _mismatch_of_precision(variant, unit)
    return None


def _mismatch_of_precision(variant: Variant, unit: UnitFacts) -> Mismatch:
    """Return why no peak applies: none is stated for the sparsity, none at all, or none for the precision."""
    peaks = unit.unit.peak
    sparse = sorted({p.sparsity for p in peaks if p.precision == variant.precision})
    if sparse:
        return Mismatch(
            "PeakUnknown", f"is {variant.sparsity}, {variant.precision} is stated {' and '.join(sparse)} only"
        )
    declared = list(dict.fromkeys(p.precision for p in peaks if p.precision))
    if not declared:
        return Mismatch("PeakUnknown", f"is {variant.precision}, and no peak is stated")
    return Mismatch("PrecisionUnsupported", f"is {variant.precision}, there is {', '.join(declared)}")
