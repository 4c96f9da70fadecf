"""Registries of the watch handlers, and their common implementation."""

from collections.abc import Callable
from typing import Final

import kopf

from maleo_kube.answers import Object
from maleo_kube.resources import Kind

Observe = Callable[[Kind, Object, bool], None]
"""Callback (kind, object, deleted), called in the operator's event loop. A `kopf.Memo` holds it as `observe`."""

ALL_KINDS: Final = kopf.OperatorRegistry()
"""Handlers of every kind that users write."""
CLUSTER_SCOPED: Final = kopf.OperatorRegistry()
"""Handlers of the cluster-scoped kinds alone, for an operator that watches single namespaces.

kopf ends when RBAC denies it one namespace, so informers of the cache watch the namespaced kinds there.
"""


def observe(memo: kopf.Memo, kind: Kind, event: kopf.RawEvent) -> None:
    """Pass the object of a watch event to the cache."""
    item = {"apiVersion": kind.api_version, "kind": kind.kind, **event["object"]}
    memo.observe(kind, item, event["type"] == "DELETED")
