"""Node labels set by users, and names as label values, which Kubernetes limits to 63 characters."""

import hashlib
from typing import Final

TIER: Final = "maleo.dev/tier"
SITE: Final = "maleo.dev/site"
_MAX_LENGTH: Final = 63
_HASH_LENGTH: Final = 10


def label_value(name: str) -> str:
    """Return the name if it fits into a label value, else its beginning and a hash of the whole name.

    The mapping is not reversible.
    """
    if len(name) <= _MAX_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: _MAX_LENGTH - _HASH_LENGTH - 1].rstrip('-_.')}-{digest}"
