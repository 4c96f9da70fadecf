"""Node labels set by users, and names as label values, which Kubernetes limits to 63 characters."""

import hashlib
from typing import Final

TIER: Final = "maleo.dev/tier"
SITE: Final = "maleo.dev/site"
_MOST: Final = 63
_HASH: Final = 10


def label_value(name: str) -> str:
    """Return the name if it fits into a label value, else its beginning and a hash of the whole name.

    The mapping is not reversible.
    """
    if len(name) <= _MOST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{name[: _MOST - _HASH - 1].rstrip('-_.')}-{digest}"
