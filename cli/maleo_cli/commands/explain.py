"""`maleo explain`: why a mission is placed where it is, what it lacks, and on demand its alternatives."""

import contextlib
from typing import Annotated

import typer

from maleo_api.mission import Mission
from maleo_api.model import Model
from maleo_api.placement import Placement, placement_name
from maleo_cli.connection import NAMESPACE, Connection, Context, Kubeconfig, Namespace, SystemNamespace, unreadable
from maleo_cli.errors import Failure
from maleo_cli.output.mission_report import describe, is_ready
from maleo_kube.errors import ApiError, NotFound
from maleo_kube.reader import Reader
from maleo_kube.resources import BY_KIND


def explain_command(
    mission: Annotated[str, typer.Argument(help="Name of the mission.")],
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    system_namespace: SystemNamespace = NAMESPACE,
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="Plan the mission again now, and list the best plan of each other mode.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="As --plan, and list every rejected combination of unit class and variant.")
    ] = False,
) -> None:
    """Explain the placement of one mission in a running cluster. Exit code 1 if it is not Ready."""
    connection = Connection(kubeconfig, context, system_namespace)
    access = connection.open()
    namespace = namespace or access.namespace
    try:
        with Reader(access) as reader:
            found, placement, model = _read_mission(reader, mission, namespace)
    except NotFound as error:
        listing = connection.command("kubectl", "get", "missions", "-A")
        message = f"mission {mission!r} not found in namespace {namespace!r}"
        raise Failure(message, f"list the missions: {listing}") from error
    except ApiError as error:
        raise unreadable(access, error) from error
    print("\n".join(describe(found, placement, model)))
    again = ("maleo", "explain", mission, "-n", namespace)
    if plan or everything:
        # Imported on demand: the planner and its libraries take longer than the report.
        from maleo_cli.replanning import plan_again  # noqa: PLC0415

        print("\n".join(plan_again(access, system_namespace, found, everything=everything)))
        if not everything:
            print(f"  list all: {connection.command(*again, '--all')}")
    else:
        print(f"Alternatives: {connection.command(*again, '--plan')}")
    if not is_ready(found):
        raise typer.Exit(1)


def _read_mission(reader: Reader, name: str, namespace: str) -> tuple[Mission, Placement | None, Model | None]:
    """Return a mission, and its active Placement and its Model if they exist. Raise NotFound or another ApiError."""
    mission = Mission.model_validate(reader.get(BY_KIND["Mission"], name, namespace=namespace))
    placement = model = None
    with contextlib.suppress(NotFound):
        if mission.status.active is not None:
            revision = placement_name(name, mission.status.active.revision)
            placement = Placement.model_validate(reader.get(BY_KIND["Placement"], revision, namespace=namespace))
    with contextlib.suppress(NotFound):
        model = Model.model_validate(reader.get(BY_KIND["Model"], mission.spec.model.name, namespace=namespace))
    return mission, placement, model
