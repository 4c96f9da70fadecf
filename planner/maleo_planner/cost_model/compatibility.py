"""Static compatibility of a variant with a unit: the first filter of planning, with a code for each kind of mismatch.

An unknown property satisfies no requirement: a runtime without a version, a device without an operating system.
"""

from dataclasses import dataclass
from typing import Final

from maleo_api.device import Runtime
from maleo_api.model import Variant
from maleo_planner.cost_model.units import UnitFacts
from maleo_planner.types.versions import VersionMatch, match_version

_VERSION_CODES: Final[dict[VersionMatch, str]] = {
    "Below": "RuntimeTooOld",
    "Above": "RuntimeTooNew",
    "Unknown": "RuntimeVersionUnknown",
}


NO_PEAK_CODES: Final = {"PeakUnknown", "PrecisionUnsupported"}
"""Codes of a peak that is not stated for the variant's precision; `find_incompatibility` checks the peak last."""


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """A requirement that is not met.

    code: for programs; reason: for people, the requirement and what the unit provides; shortfall: relative shortfall,
    of a quantity alone.
    """

    code: str
    reason: str
    shortfall: float | None = None


def find_incompatibility(variant: Variant, unit: UnitFacts) -> Incompatibility | None:
    """Return the first requirement that is not met, None where the variant can run.

    Checked in this order: runtime, its version, format, back end, operating system, features, precision.
    """
    runtime = unit.runtime(variant)
    if runtime is None:
        provided = ", ".join(r.name for r in unit.unit.runtimes) or "none"
        return Incompatibility(
            "RuntimeUnsupported", f"requires runtime {variant.requires.runtime}, the unit provides {provided}"
        )
    return _check_runtime(variant, runtime) or _check_unit(variant, unit)


def _check_runtime(variant: Variant, runtime: Runtime) -> Incompatibility | None:
    """Return the first requirement on version, format and back end that the runtime does not meet."""
    requirements, formats = variant.requires, [artifact.format for artifact in variant.artifacts]
    match = match_version(runtime.version, requirements.version)
    if match != "Inside":
        provided = runtime.version or "an unknown version"
        return Incompatibility(
            _VERSION_CODES[match], f"requires {runtime.name} {requirements.version}, the unit provides {provided}"
        )
    if not set(formats) & set(runtime.formats):
        provided = ", ".join(runtime.formats) or "no known format"
        return Incompatibility(
            "FormatUnsupported", f"has format {', '.join(formats)}, {runtime.name} supports {provided}"
        )
    if requirements.providers and not set(requirements.providers) & set(runtime.providers):
        provided = ", ".join(runtime.providers) or "the CPU only"
        return Incompatibility(
            "BackEndMissing", f"requires {' or '.join(requirements.providers)}, {runtime.name} provides {provided}"
        )
    return None


def _check_unit(variant: Variant, unit: UnitFacts) -> Incompatibility | None:
    """Return the first requirement on operating system, features and precision that the unit does not meet."""
    requirements = variant.requires
    if requirements.os and requirements.os not in unit.hardware.os:
        provided = ", ".join(unit.hardware.os) or "an unknown one"
        return Incompatibility(
            "OsUnsupported", f"requires operating system {requirements.os}, the device runs {provided}"
        )
    missing = [feature for feature in requirements.features if feature not in unit.unit.features]
    if missing:
        return Incompatibility("FeatureMissing", f"requires {', '.join(missing)}, which the unit does not provide")
    if unit.speed(variant) is None:
        return _precision_incompatibility(variant, unit)
    return None


def _precision_incompatibility(variant: Variant, unit: UnitFacts) -> Incompatibility:
    """Return why no peak applies: none is stated for the sparsity, none at all, or none for the precision."""
    peaks = unit.unit.peak
    sparse = sorted({p.sparsity for p in peaks if p.precision == variant.precision})
    if sparse:
        declared_for = f"the unit declares a peak for {' and '.join(sparse)} {variant.precision} only"
        return Incompatibility("PeakUnknown", f"is {variant.sparsity}, {declared_for}")
    declared = list(dict.fromkeys(p.precision for p in peaks if p.precision))
    if not declared:
        return Incompatibility("PeakUnknown", f"is {variant.precision}, the unit declares no peak")
    return Incompatibility("PrecisionUnsupported", f"is {variant.precision}, the unit supports {', '.join(declared)}")
