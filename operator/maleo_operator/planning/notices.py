"""What planning accepts although it is hardly meant: told to whoever wrote it, and no reason to refuse a plan."""

from collections.abc import Iterator

from maleo_operator.planning.edition import tell_unknown
from maleo_operator.planning.problem import Snapshot


def list_notices(snapshot: Snapshot) -> Iterator[str]:
    """Yield `Kind/name: what is wrong and what to do` for all objects of the snapshot."""
    for key, mission in sorted(snapshot.missions.items()):
        model = snapshot.models.get(mission.model_key)
        if model is not None and (unknown := tell_unknown(mission, model)):
            yield f"Mission/{key}: {unknown}"
