"""`maleo replay`: plan again from the inputs stored by `maleo plan --store`, and compare the answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
import yaml

from maleo_api.manifests import AnyResource
from maleo_api.mission import Mission
from maleo_api.placement import Partition, Placement, PlacementSpec
from maleo_cli.errors import Failure
from maleo_cli.output.json_output import Answer, describe
from maleo_planner import Aim, FleetPlan, Infeasible, Plan, Snapshot, plan, plan_fleet
from maleo_planner.types import serialization

_MOST_TOLD: Final = 12


class _Stored(msgspec.Struct):
    """Stored plan. answers: mission key -> its answer in `maleo plan -o json`; inputs: the encoded snapshot."""

    aim: Aim
    answers: dict[str, Answer]
    inputs: msgspec.Raw


def keep(folder: Path, snapshot: Snapshot, fleet: FleetPlan, *, aim: Aim) -> None:
    """Write the planner's inputs and the plans to a file in `folder`, named by the digest of the inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = serialization.encode(snapshot)
    body = {"aim": aim, "answers": _answers(snapshot, fleet), "inputs": msgspec.Raw(inputs)}
    (folder / f"plan-{serialization.digest(inputs)[7:19]}.json").write_bytes(msgspec.json.encode(body))


def replay_command(
    files: Annotated[list[Path], typer.Argument(help="Files that `maleo plan --store FOLDER` wrote.")],
    placement: Annotated[
        Path | None, typer.Option(help="A Placement (kubectl get -o yaml): the file is what the operator kept of it.")
    ] = None,
    mission: Annotated[
        Path | None,
        typer.Option(help="A refused Mission (kubectl get -o yaml): the file is what the operator kept of it."),
    ] = None,
) -> None:
    """Plan again what `maleo plan --store` kept, and compare.

    Exit code 1 when an answer differs from the stored one in anything, 2 when a file holds none.
    """
    if placement is not None:
        _replay_placement(files, placement)
        return
    if mission is not None:
        _replay_refusal(files, mission)
        return
    differs = False
    for file in files:
        try:
            stored = msgspec.json.decode(file.read_bytes(), type=_Stored)
            inputs = bytes(stored.inputs)
            snapshot, _, budgets = serialization.decode(inputs)
        except (OSError, ValueError) as error:
            raise Failure(f"{file}: {error}", "name a file that `maleo plan --store` wrote", exit_code=2) from error
        before: dict[str, Any] = msgspec.to_builtins(stored.answers)
        after = _answers(snapshot, plan_fleet(snapshot, aim=stored.aim, budgets=budgets))
        for key in sorted({*before, *after}):
            told = list(_differences(before.get(key), after.get(key)))
            differs |= bool(told)
            print(f"{'DIFFERS' if told else 'same'}  {key}  {serialization.digest(inputs)[:19]}")
            more = [f"and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
            print("".join(f"  {line}\n" for line in told[:_MOST_TOLD] + more), end="")
    if differs:
        raise typer.Exit(1)


def _replay_placement(files: list[Path], placement: Path) -> None:
    made, inputs, (snapshot, key, budgets) = _read_decision(Placement, placement, files)
    if serialization.digest(inputs) != made.spec.inputs_digest or key not in snapshot.missions:
        todo = f"it followed from {made.spec.inputs_digest}: take the file of that name from the operator"
        raise Failure(f"{files[0]} is not what {made.metadata.name} followed from", todo, exit_code=2)
    chosen = plan(snapshot, key, budgets=budgets).chosen
    told = list(_differences(_decision(made.spec), _decision(chosen) if chosen else None))
    print(f"{'DIFFERS' if told else 'same'}  {made.metadata.name}  {made.spec.inputs_digest[:19]}")
    if told:
        print("".join(f"  {line}\n" for line in told), end="")
        raise typer.Exit(1)


def _replay_refusal(files: list[Path], mission: Path) -> None:
    """Compare the blocker that the planner finds now with the reason of the mission's condition Placed.

    Exit with code 1 if they differ.
    """
    refused, inputs, (snapshot, key, budgets) = _read_decision(Mission, mission, files)
    told = refused.status
    if told.decision is None or serialization.digest(inputs) != told.decision.inputs_digest:
        wanted = told.decision.inputs_digest if told.decision is not None else "inputs that its status does not name"
        todo = f"it followed from {wanted}: take the file of that name from the operator"
        raise Failure(f"{files[0]} is not what {mission} followed from", todo, exit_code=2)
    verdict = plan(snapshot, key, budgets=budgets)
    now = verdict.blockers[0].code if isinstance(verdict, Infeasible) else "Placed"
    before = next((c.reason for c in told.conditions if c.type == "Placed"), "unknown")
    print(f"{'same' if now == before else 'DIFFERS'}  {key}  {told.decision.inputs_digest[:19]}")
    if now != before:
        print(f"  {before} was stored, {now} is planned now")
        raise typer.Exit(1)


def _read_decision(
    kind: type[AnyResource], file: Path, files: list[Path]
) -> tuple[AnyResource, bytes, serialization.Problem]:
    """Return the object in `file`, and the bytes and content of the inputs that the operator kept of its decision."""
    try:
        made = kind.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        inputs = b"".join(kept.read_bytes() for kept in files)
        return made, inputs, serialization.decode(inputs)
    except (OSError, ValueError, yaml.YAMLError) as error:
        todo = f"name one {kind.__name__}, and the one file that the operator kept of its inputs"
        raise Failure(str(error), todo, exit_code=2) from error


def _decision(made: PlacementSpec | Plan) -> dict[str, Any]:
    """Return the decided fields of a stored or a new plan in a common form."""
    parts = [
        (p.node, p.unit, p.span.first, p.span.last) if isinstance(p, Partition) else (p.node, p.unit, p.first, p.last)
        for p in made.partitions
    ]
    names = ("node", "unit", "first", "last")
    partitions = [dict(zip(names, part, strict=True)) for part in parts]
    return {"mode": made.mode, "variant": made.variant, "exit": made.exit, "partitions": partitions}


def _answers(snapshot: Snapshot, fleet: FleetPlan) -> dict[str, Any]:
    return {key: describe(snapshot.missions[key], verdict) for key, verdict in sorted(fleet.verdicts.items())}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield exact differences: `partitions[0].node: "edge-1" was stored, "edge-2" is planned now`."""
    if before is None and isinstance(after, dict):
        yield f"{path or 'the mission'} was not stored and is planned now"
    elif after is None and isinstance(before, dict):
        yield f"{path or 'the mission'} was stored and is not planned now"
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(name), after.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif isinstance(before, list) and isinstance(after, list):
        yield f"{path}: {len(before)} were stored, {len(after)} are planned now"
    elif before != after:
        yield f"{path}: {json.dumps(before)} was stored, {json.dumps(after)} is planned now"
