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

_MAX_DIFFERENCES: Final = 12
"""Maximum number of printed differences of a mission."""


class _Stored(msgspec.Struct):
    """Stored plan. answers: mission key -> its answer in `maleo plan -o json`; inputs: the encoded snapshot."""

    aim: Aim
    answers: dict[str, Answer]
    inputs: msgspec.Raw


def store_plan(folder: Path, snapshot: Snapshot, fleet: FleetPlan, *, aim: Aim) -> None:
    """Write the planner's inputs and the plans to a file in `folder`, named by the digest of the inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = serialization.encode(snapshot)
    body = {"aim": aim, "answers": _answers(snapshot, fleet), "inputs": msgspec.Raw(inputs)}
    (folder / f"plan-{serialization.digest(inputs)[7:19]}.json").write_bytes(msgspec.json.encode(body))


def replay_command(
    files: Annotated[list[Path], typer.Argument(help="Files written by `maleo plan --store FOLDER`.")],
    placement: Annotated[
        Path | None,
        typer.Option(
            help="Placement manifest (kubectl get -o yaml) to compare; FILES are the operator's stored inputs."
        ),
    ] = None,
    mission: Annotated[
        Path | None,
        typer.Option(help="Manifest of a Mission without a plan to compare; FILES are the operator's stored inputs."),
    ] = None,
) -> None:
    """Replan stored inputs and compare the result with the stored plans.

    Exit code 1 if a plan differs from the stored one, 2 if a file cannot be read.
    """
    if placement is not None:
        _replay_placement(files, placement)
        return
    if mission is not None:
        _replay_blocker(files, mission)
        return
    differs = False
    for file in files:
        try:
            stored = msgspec.json.decode(file.read_bytes(), type=_Stored)
            inputs = bytes(stored.inputs)
            snapshot, _, budgets = serialization.decode(inputs)
        except (OSError, ValueError) as error:
            raise Failure(f"{file}: {error}", "pass a file written by `maleo plan --store`", exit_code=2) from error
        before: dict[str, Any] = msgspec.to_builtins(stored.answers)
        after = _answers(snapshot, plan_fleet(snapshot, aim=stored.aim, budgets=budgets))
        for key in sorted({*before, *after}):
            differences = list(_differences(before.get(key), after.get(key)))
            differs |= bool(differences)
            print(f"{'DIFFERS' if differences else 'same'}  {key}  {serialization.digest(inputs)[:19]}")
            more = [f"and {len(differences) - _MAX_DIFFERENCES} more"] if len(differences) > _MAX_DIFFERENCES else []
            print("".join(f"  {line}\n" for line in differences[:_MAX_DIFFERENCES] + more), end="")
    if differs:
        raise typer.Exit(1)


def _replay_placement(files: list[Path], placement: Path) -> None:
    stored, inputs, (snapshot, key, budgets) = _read_decision(Placement, placement, files)
    name, digest = stored.metadata.name, stored.spec.inputs_digest
    if serialization.digest(inputs) != digest or key not in snapshot.missions:
        raise Failure(f"{files[0]} does not hold the inputs of Placement {name}", _describe_inputs(digest), exit_code=2)
    chosen = plan(snapshot, key, budgets=budgets).chosen
    differences = list(_differences(_decision(stored.spec), _decision(chosen) if chosen else None))
    print(f"{'DIFFERS' if differences else 'same'}  {name}  {digest[:19]}")
    if differences:
        print("".join(f"  {line}\n" for line in differences), end="")
        raise typer.Exit(1)


def _replay_blocker(files: list[Path], mission: Path) -> None:
    """Compare the blocker that the planner finds now with the reason of the mission's condition Placed.

    Exit with code 1 if they differ.
    """
    stored, inputs, (snapshot, key, budgets) = _read_decision(Mission, mission, files)
    decision = stored.status.decision
    if decision is None:
        raise Failure(f"{mission}: status.decision is missing", "pass a Mission read from the cluster", exit_code=2)
    if serialization.digest(inputs) != decision.inputs_digest:
        remedy = _describe_inputs(decision.inputs_digest)
        raise Failure(f"{files[0]} does not hold the inputs of the decision in {mission}", remedy, exit_code=2)
    verdict = plan(snapshot, key, budgets=budgets)
    now = verdict.blockers[0].code if isinstance(verdict, Infeasible) else "Placed"
    before = next((c.reason for c in stored.status.conditions if c.type == "Placed"), "unknown")
    print(f"{'same' if now == before else 'DIFFERS'}  {key}  {decision.inputs_digest[:19]}")
    if now != before:
        print(f"  Placed: stored reason {before}, planned now {now}")
        raise typer.Exit(1)


def _describe_inputs(digest: str) -> str:
    """Return the remedy for wrong inputs. digest: digest of the expected ones."""
    return f"pass {digest.removeprefix('sha256:')}.json of the operator's stored inputs"


def _read_decision(
    kind: type[AnyResource], file: Path, files: list[Path]
) -> tuple[AnyResource, bytes, serialization.StoredProblem]:
    """Return the object in `file`, and the bytes and content of the inputs that the operator stored with it."""
    try:
        stored = kind.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        inputs = b"".join(part.read_bytes() for part in files)
        return stored, inputs, serialization.decode(inputs)
    except (OSError, ValueError, yaml.YAMLError) as error:
        remedy = f"pass the manifest of one {kind.__name__}, and the operator's stored inputs of its decision"
        raise Failure(str(error), remedy, exit_code=2) from error


def _decision(plan_: PlacementSpec | Plan) -> dict[str, Any]:
    """Return the decided fields of a stored or a new plan in a common form."""
    parts = [
        (p.node, p.unit, p.span.first, p.span.last) if isinstance(p, Partition) else (p.node, p.unit, p.first, p.last)
        for p in plan_.partitions
    ]
    names = ("node", "unit", "first", "last")
    partitions = [dict(zip(names, part, strict=True)) for part in parts]
    return {"mode": plan_.mode, "variant": plan_.variant, "exit": plan_.exit, "partitions": partitions}


def _answers(snapshot: Snapshot, fleet: FleetPlan) -> dict[str, Any]:
    return {key: describe(snapshot.missions[key], verdict) for key, verdict in sorted(fleet.verdicts.items())}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield exact differences: `partitions[0].node: stored "edge-1", planned now "edge-2"`."""
    if before is None and isinstance(after, dict):
        yield f"{path or 'mission'}: not stored, planned now"
    elif after is None and isinstance(before, dict):
        yield f"{path or 'mission'}: stored, not planned now"
    elif isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(name), after.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (a, b) in enumerate(zip(before, after, strict=True)):
            yield from _differences(a, b, f"{path}[{index}]")
    elif isinstance(before, list) and isinstance(after, list):
        yield f"{path}: stored {len(before)} entries, planned now {len(after)}"
    elif before != after:
        yield f"{path}: stored {json.dumps(before)}, planned now {json.dumps(after)}"
