"""Static compatibility of variants with units: the first filter of planning, with a code for each incompatibility.

An unknown property, such as the version of a runtime or the operating system of a device, satisfies no requirement.
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
"""Codes if no peak is declared for the precision of the variant; `find_incompatibility` checks the peak last."""


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """Requirement of a variant that a unit does not meet.

    Attributes:
        code: Machine-readable reason.
        reason: The requirement and what the unit provides, as text.
        shortfall: Missing share of a quantity; None if the requirement is no quantity.
    """

    code: str
    reason: str
    shortfall: float | None = None


def find_incompatibility(variant: Variant, unit: UnitFacts) -> Incompatibility | None:
    """Return the first requirement that the unit does not meet; None if the variant can run.

    The order is runtime, its version, format, back end, operating system, features, precision.
    """
    runtime = unit.runtime(variant)
    if runtime is None:
        provided = ", ".join(r.name for r in unit.unit.runtimes) or "none"
        return Incompatibility(
            "RuntimeUnsupported", f"requires runtime {variant.requires.runtime}, the unit provides {provided}"
        )
    return _check_runtime(variant, runtime) or _check_unit(variant, unit)


def _check_runtime(variant: Variant, runtime: Runtime) -> Incompatibility | None:
    """Return the first of version, format and back end that the runtime does not provide."""
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
    """Return the first of operating system, features and precision that the unit does not provide."""
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
    """Return why no peak applies: none is declared for the sparsity, none at all, or none for the precision."""
    peaks = unit.unit.peak
    sparse = sorted({p.sparsity for p in peaks if p.precision == variant.precision})
    if sparse:
        declared_for = f"the unit declares a peak for {' and '.join(sparse)} {variant.precision} only"
        return Incompatibility("PeakUnknown", f"is {variant.sparsity}, {declared_for}")
    declared = list(dict.fromkeys(p.precision for p in peaks if p.precision))
    if not declared:
        return Incompatibility("PeakUnknown", f"is {variant.precision}, the unit declares no peak")
    return Incompatibility("PrecisionUnsupported", f"is {variant.precision}, the unit supports {', '.join(declared)}")
