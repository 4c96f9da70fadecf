"""Egress rule: how far a mission's data may travel. The planner and the running placements are checked by it."""

from typing import Protocol

from maleo_api.mission import Reach


class Place(Protocol):
    """Name and site of a node; the site is empty if the node has no site label."""

    @property
    def name(self) -> str:
        """Return the name of the node."""
        ...

    @property
    def site(self) -> str:
        """Return the site of the node, empty without a site label."""
        ...


def may_leave(reach: Reach, source_site: str, target_site: str) -> bool:
    """Return True if data may go from a node of `source_site` to another node of `target_site`.

    Two nodes without a site label are not on the same site: nothing proves that they are close.
    """
    return reach == "Any" or (reach == "Site" and source_site != "" and source_site == target_site)


def may_receive(reach: Reach, source: Place | None, target: Place | None) -> bool:
    """Return True if data may go from the input node `source` to `target`, which may be the same node.

    None stands for a node that does not exist or was deleted: its site is unknown.
    """
    if source is None or target is None:
        return reach == "Any"
    return source.name == target.name or may_leave(reach, source.site, target.site)
