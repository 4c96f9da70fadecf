"""Labels that people give nodes; and names as values of labels, which Kubernetes limits to 63 characters."""

import hashlib
from typing import Final

TIER: Final = "maleo.dev/tier"
SITE: Final = "maleo.dev/site"
_MOST: Final = 63
_HASH: Final = 10


def label_value(name: str) -> str:
    """The name itself where it fits, else its beginning and a hash of the whole. It cannot be read back."""
    if len(name) <= _MOST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH]
    return f"{name[: _MOST - _HASH - 1].rstrip('-_.')}-{digest}"
