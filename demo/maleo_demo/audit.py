"""Counts what was written to the API server, from its audit log (one JSON event a line)."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

_WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def count_writes(log: Iterable[str], *, user: str, since: float, until: float) -> Counter[str]:
    """`verb resource[/subresource]` -> count, of the service account `user` in [since, until) Unix time.

    Left out, as the quiet-world rule does: the writer's own Lease, and TokenReviews, which store nothing.
    """
    writes: Counter[str] = Counter()
    for line in log:
        event: dict[str, Any] = json.loads(line)
        what = event.get("objectRef", {})
        if (
            event.get("stage") == "ResponseComplete"
            and event["user"]["username"] == user
            and event["verb"] in _WRITES
            and what.get("resource") not in {"leases", "tokenreviews"}
            and since <= datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp() < until
        ):
            subresource = f"/{what['subresource']}" if what.get("subresource") else ""
            writes[f"{event['verb']} {what.get('resource', '')}{subresource}"] += 1
    return writes
