"""`maleo replay`: plan again from what `maleo plan --store` kept, and see that the answer is the same."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from maleo_cli.failure import Failure
from maleo_operator.planning import store
from maleo_operator.planning.fleet import FleetPlan, plan_fleet
from maleo_operator.planning.objective import Aim
from maleo_operator.planning.problem import Feasible, Snapshot, Verdict


def keep(folder: Path, snapshot: Snapshot, fleet: FleetPlan, *, aim: Aim) -> None:
    """A file with all that these plans follow from, and the plans. Named by the digest of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = store.encode(snapshot)
    answers = {key: _essence(verdict) for key, verdict in sorted(fleet.verdicts.items())}
    body = {"aim": aim, "answers": answers, "inputs": msgspec.Raw(inputs)}
    (folder / f"plan-{store.digest(inputs)[7:19]}.json").write_bytes(msgspec.json.encode(body))


def replay_command(
    files: Annotated[list[Path], typer.Argument(help="Files that `maleo plan --store FOLDER` wrote.")],
) -> None:
    """Plan again. Exit code 1 when an answer differs from the stored one, 2 when a file holds none."""
    differs = False
    for file in files:
        try:
            body = msgspec.json.decode(file.read_bytes(), type=dict[str, msgspec.Raw])
            inputs = bytes(body["inputs"])
            snapshot, _ = store.decode(inputs)
            aim, before = msgspec.json.decode(body["aim"], type=Aim), msgspec.json.decode(body["answers"])
        except (OSError, ValueError, KeyError) as error:
            raise Failure(f"{file}: {error}", "name a file that `maleo plan --store` wrote", exit_code=2) from error
        for key, verdict in sorted(plan_fleet(snapshot, aim=aim).verdicts.items()):
            again = _essence(verdict)
            same = again == before.get(key)
            differs |= not same
            print(f"{'same' if same else 'DIFFERS'}  {key}  {store.digest(inputs)[:19]}  {again}")
    if differs:
        raise typer.Exit(1)


def _essence(verdict: Verdict) -> dict[str, Any]:
    """What slots would be told, and the objective to the last digit."""
    chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
    blockers = [] if isinstance(verdict, Feasible) else [b.code for b in verdict.blockers]
    parts = [f"{p.node} {p.unit} [{p.first}..{p.last}]" for p in chosen.partitions] if chosen else []
    return {
        "feasible": isinstance(verdict, Feasible),
        "variant": chosen.variant if chosen else "",
        "partitions": parts,
        "objective": chosen.objective if chosen else None,
        "blockers": blockers,
    }
