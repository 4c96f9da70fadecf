"""Times in the form of the Kubernetes API: RFC 3339 in UTC, of seconds (`Time`) or microseconds (`MicroTime`)."""

from datetime import UTC, datetime


def format_timestamp(at: float) -> str:
    """Return a Unix time as an API timestamp: `2026-11-24T01:40:00Z`."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(at: float) -> str:
    """Return a Unix time with microseconds, as in Leases: `2026-11-24T01:40:00.250000Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> float:
    """Return the Unix time of an API timestamp. Raise ValueError if it is malformed."""
    return datetime.fromisoformat(text).timestamp()
