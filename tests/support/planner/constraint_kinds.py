"""Every kind of constraint in generated problems, with a function that removes it from a problem."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

from maleo_planner.types.problem import Snapshot
from support.planner.builders import KEY, link
from support.planner.variations import Body, changed

Lift = Callable[[Snapshot], Snapshot]


def _units(change: Callable[[Body], object]) -> Lift:
    """Return a function that changes the units of all profiles."""

    def change_all(body: Body) -> None:
        for unit in body["spec"]["computeUnits"]:
            change(unit)

    return lambda found: replace(found, profiles={k: changed(v, change_all) for k, v in found.profiles.items()})


def _variants(change: Callable[[Body], object]) -> Lift:
    def change_all(body: Body) -> None:
        for variant in body["spec"]["variants"]:
            change(variant)

    return lambda found: replace(found, models={k: changed(v, change_all) for k, v in found.models.items()})


def _devices(change: Callable[[Body], object]) -> Lift:
    return lambda found: replace(found, devices={k: changed(v, change) for k, v in found.devices.items()})


def _links(change: Callable[[Body], object]) -> Lift:
    return lambda found: replace(found, links={k: changed(v, change) for k, v in found.links.items()})


def _wanted(change: Callable[[Body], object]) -> Lift:
    """Return a function that changes the spec of the planned mission."""

    def change_spec(body: Body) -> None:
        change(body["spec"])

    return lambda found: replace(found, missions={**found.missions, KEY: changed(found.missions[KEY], change_spec)})


def _nodes(**facts: Any) -> Lift:
    return lambda found: replace(found, nodes={k: replace(v, **facts) for k, v in found.nodes.items()})


def _seen(**none: Any) -> Lift:
    return lambda found: replace(found, observations=replace(found.observations, **none))


def _others(**parts: Any) -> Lift:
    """Return a function that replaces these fields in the current plans of other missions."""

    def lift(found: Snapshot) -> Snapshot:
        return replace(
            found, current_plans={k: p if k == KEY else replace(p, **parts) for k, p in found.current_plans.items()}
        )

    return lift


def _others_parts(**figures: Any) -> Lift:
    def lift(found: Snapshot) -> Snapshot:
        changed = {
            key: plan if key == KEY else replace(plan, partitions=tuple(replace(p, **figures) for p in plan.partitions))
            for key, plan in found.current_plans.items()
        }
        return replace(found, current_plans=changed)

    return lift


def _others_patient(found: Snapshot) -> Snapshot:
    def soften(body: Body) -> None:
        body["spec"]["objectives"]["latency"]["enforcement"] = "Soft"

    return replace(
        found, missions={key: each if key == KEY else changed(each, soften) for key, each in found.missions.items()}
    )


def _soft(objective: str) -> Lift:
    def soften(spec: Body) -> None:
        if objective in spec["objectives"]:
            spec["objectives"][objective]["enforcement"] = "Soft"

    return _wanted(soften)


def _drop(*names: str) -> Callable[[Body], None]:
    def drop(body: Body) -> None:
        for name in names:
            body.pop(name, None)

    return drop


def _alike_both_ways(body: Body) -> None:
    if "up" in body["spec"]:
        body["spec"] |= {"bandwidth": body["spec"].pop("up")}
        del body["spec"]["down"]


def _all_joined(found: Snapshot) -> Snapshot:
    pairs = combinations(found.nodes, 2)
    more = {f"{a}-{b}": link(a, b, "100Mbit/s") for a, b in pairs}
    return replace(found, links={**more, **found.links})


def _named_input(spec: Body) -> None:
    spec["input"] = {"node": "drone"}


def _without(feature: str, rows: str) -> Callable[[Body], None]:
    def change(unit: Body) -> None:
        unit["features"] = [each for each in unit["features"] if each != feature]
        unit[rows] = []

    return change


def _of_runtime(**facts: Any) -> Lift:
    return _units(lambda unit: [runtime.update(facts) for runtime in unit["runtimes"]])


def _needs(name: str) -> Lift:
    return _variants(lambda variant: variant["requires"].pop(name, None))


def _of_codecs(**facts: Any) -> Callable[[Body], None]:
    def change(variant: Body) -> None:
        for block in variant["blocks"]:
            for each in block.get("cut", {}).get("codecs", ()):
                each.update(facts)

    return change


def _no_codecs(variant: Body) -> None:
    for block in variant["blocks"]:
        block.get("cut", {}).pop("codecs", None)


def _mixed_cuts(variant: Body) -> None:
    for block in variant["blocks"]:
        if block.get("cut"):
            block["cut"]["raw"] = False


def _no_spans(found: Snapshot) -> Snapshot:
    return replace(found, model_profiles={})


def _no_joules(found: Snapshot) -> Snapshot:
    def change(body: Body) -> None:
        for span in body["spec"]["spans"]:
            span.pop("energy", None)

    return replace(found, model_profiles={k: changed(v, change) for k, v in found.model_profiles.items()})


def _by_node_alone(found: Snapshot) -> Snapshot:
    return replace(found, links={k: v for k, v in found.links.items() if all(p.node for p in v.spec.between)})


def _known_power(unit: Body) -> None:
    unit["power"] = unit["power"] or [{"state": "Typical", "value": "1W", "basis": "Measured"}]


def _known_efficiency(unit: Body) -> None:
    known = {(row["precision"], row["sparsity"]) for row in unit["efficiency"]}
    for peak in unit["peak"]:
        if (peak["precision"], peak["sparsity"]) not in known:
            row = {"precision": peak["precision"], "sparsity": peak["sparsity"], "value": "100%", "basis": "Measured"}
            unit["efficiency"].append(row)


def _known_peaks(unit: Body) -> None:
    known = {row["precision"] for row in unit["peak"]}
    more = [{"precision": p, "rate": "10GOPS", "basis": "Measured"} for p in ("fp32", "int8") if p not in known]
    unit["peak"] = [*unit["peak"], *more]


def _known_accuracy(variant: Body) -> None:
    row = {"metric": "top-1", "dataset": "d", "value": "80%", "basis": "Measured"}
    variant["accuracy"] = [each | {"basis": "Measured"} for each in variant["accuracy"]] or [row]


KINDS: Mapping[str, Lift] = {
    # What is asked for.
    "a Hard limit of accuracy": _soft("accuracy"),
    "a Hard limit of latency": _soft("latency"),
    "a Hard limit of energy": _soft("energy"),
    "a rate": _wanted(lambda spec: spec.update(demand={"rate": "1/h"})),
    "egress of the input": _wanted(lambda spec: spec["egress"].update(input="Any")),
    "egress of features": _wanted(lambda spec: spec["egress"].update(features="Any")),
    "modes": _wanted(lambda spec: spec.update(modes=["Local", "Split", "Remote"])),
    "a floor relative to a variant": _wanted(lambda s: s["objectives"].get("accuracy", {}).pop("relativeTo", None)),
    "updates of the model": _wanted(lambda spec: spec["model"].pop("updatedEvery", None)),
    "variants that are named": _wanted(lambda spec: spec["model"].update(variants=[])),
    "an input by selector": _wanted(_named_input),
    "an incumbent plan": lambda found: replace(
        found, current_plans={k: p for k, p in found.current_plans.items() if k != KEY}
    ),
    # What others hold.
    "memory of others": _others_parts(memory=0.0),
    "a fallback of others": _others(fallback=None),
    "links of others": _others(transfers=()),
    "patience of others": _others_patient,
    "all that others hold": lambda found: replace(
        found, current_plans={k: p for k, p in found.current_plans.items() if k == KEY}
    ),
    # What hardware is.
    "memory": _units(lambda unit: unit.update(memory=[])),
    "bandwidth of memory": _units(lambda unit: [row.pop("bandwidth", None) for row in unit["memory"]]),
    "memory that is shared": _units(lambda u: u.update(memory=[m for m in u["memory"] if m["kind"] != "Shared"])),
    "allocatable memory": _devices(lambda body: [row.pop("allocatable", None) for row in body["status"]["units"]]),
    "a launch": _units(_drop("overhead")),
    "exclusive units": _units(lambda unit: unit.update(access={"sharing": "TimeShared"})),
    "reconfiguration": _units(_without("Reconfigurable", "reconfiguration")),
    "analogue tolerance": _units(_without("Analog", "accuracyTolerance")),
    "writing weights": _units(_without("Analog", "weightWriting")),
    "unknown power": _units(_known_power),
    "unknown efficiency": _units(_known_efficiency),
    "unknown peaks": _units(_known_peaks),
    "sparse peaks": _units(lambda u: u.update(peak=[p for p in u["peak"] if p["sparsity"] == "Dense"])),
    "figures of a weaker basis": _units(lambda u: u.update(peak=[p for p in u["peak"] if p["basis"] == "Measured"])),
    "a power mode": _devices(lambda body: body["status"].get("inventory", {}).update(powerMode="default")),
    "a power cap": _devices(lambda body: body["spec"].pop("powerCap", None)),
    "runtime": _of_runtime(name="onnxruntime"),
    "format": _of_runtime(formats=["onnx"]),
    "version": _needs("version"),
    "back end": _needs("providers"),
    "features": _needs("features"),
    "operating system": _needs("os"),
    "a co-located processor": _devices(lambda body: body["status"].pop("inventory", None)),
    # What is up.
    "units that are unavailable": _devices(
        lambda body: [row.update(state="Available") for row in body["status"]["units"]]
    ),
    "devices that are not ready": _devices(lambda body: body["status"].pop("conditions", None)),
    "nodes that are not ready": _nodes(ready=True),
    "nodes that are cordoned": _nodes(schedulable=True),
    # What joins them.
    "missing links": _all_joined,
    "links by site and tier": _by_node_alone,
    "directions of links": _links(_alike_both_ways),
    "energy of links": _links(lambda body: body["spec"].pop("energyPerByte", None)),
    # What was measured.
    "measured links": _seen(bandwidth={}),
    "throttling": _seen(capacity={}),
    "correction": _seen(correction={}),
    "measured spans": _no_spans,
    "measured energy": _no_joules,
    # What the model offers.
    "exits": _variants(_drop("exits")),
    "raw cuts": _variants(_mixed_cuts),
    "codecs": _variants(_no_codecs),
    "work of codecs": _variants(_of_codecs(encode="0MOP", decode="0MOP")),
    "loss of codecs": _variants(
        _of_codecs(accuracy=[{"metric": "top-1", "dataset": "d", "value": "99%", "basis": "Measured"}])
    ),
    "unknown accuracy": _variants(_known_accuracy),
    "sparsity": _variants(lambda variant: variant.update(sparsity="Dense")),
    "whole models": _variants(lambda variant: variant.update(cutting="Graph")),
}
IDLE: Mapping[str, Lift] = {"metered links": _links(lambda body: body["spec"].update(metered=False))}
"""Fields for people, which do not influence planning."""
