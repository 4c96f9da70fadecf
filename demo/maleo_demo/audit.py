"""Counter of API writes from the audit log of the API server (one JSON event per line)."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

_WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def count_writes(log: Iterable[str], *, user: str, since: float, until: float) -> Counter[str]:
    """Return `verb resource[/subresource]` -> number of writes by the user name `user` in [since, until) Unix time.

    Leases, and TokenReviews, which store nothing, are not counted: the rule of no writes in steady state excludes them.
    """
    writes: Counter[str] = Counter()
    for line in log:
        event: dict[str, Any] = json.loads(line)
        reference = event.get("objectRef", {})
        if (
            event.get("stage") == "ResponseComplete"
            and event["user"]["username"] == user
            and event["verb"] in _WRITES
            and reference.get("resource") not in {"leases", "tokenreviews"}
            and since <= datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp() < until
        ):
            subresource = f"/{reference['subresource']}" if reference.get("subresource") else ""
            writes[f"{event['verb']} {reference.get('resource', '')}{subresource}"] += 1
    return writes
