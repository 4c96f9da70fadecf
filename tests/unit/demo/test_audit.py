"""The demo's count of API writes: what counts as a write of the operator, and what does not."""

import json
from pathlib import Path

from maleo_demo.audit import count_writes

OPERATOR = "system:serviceaccount:maleo-system:maleo-operator"


def _event(verb: str, resource: str, *, at: str, user: str = OPERATOR, stage: str = "ResponseComplete") -> str:
    return json.dumps(
        {
            "stage": stage,
            "verb": verb,
            "user": {"username": user},
            "objectRef": {"resource": resource, "subresource": "status" if resource == "missions" else ""},
            "requestReceivedTimestamp": f"2026-11-24T00:00:{at}.000000Z",
        }
    )


def test_count_writes__counts_only_the_operators_own_writes_inside_the_interval(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        "\n".join(
            [
                _event("patch", "missions", at="10"),
                _event("patch", "missions", at="11"),
                _event("create", "pods", at="12"),
                _event("get", "pods", at="12"),  # a read
                _event("create", "pods", at="12", stage="RequestReceived"),  # the same request, earlier stage
                _event("update", "leases", at="13"),  # its own Lease
                _event("create", "tokenreviews", at="13"),
                _event("create", "pods", at="14", user="system:node:drone-1"),
                _event("create", "pods", at="40"),  # after the interval
            ]
        )
    )
    start = 1795478400.0  # 2026-11-24T00:00:00Z
    counted = count_writes(log.read_text().splitlines(), user=OPERATOR, since=start + 5, until=start + 30)
    assert counted == {"patch missions/status": 2, "create pods": 1}
