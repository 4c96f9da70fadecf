"""How far a mission's data may travel: the one rule that planning and what serves are judged by."""

from typing import Protocol

from maleo_api.mission import Reach


class Place(Protocol):
    """A node: its name and its site, which is empty where no label says it."""

    @property
    def name(self) -> str: ...

    @property
    def site(self) -> str: ...


def may_leave(reach: Reach, source_site: str, target_site: str) -> bool:
    """Return whether data born at a node of `source_site` may go to another node, of `target_site`.

    Nodes without a site share none: what nobody has labelled is not known to be near.
    """
    return reach == "Any" or (reach == "Site" and source_site != "" and source_site == target_site)


def may_receive(reach: Reach, source: Place | None, target: Place | None) -> bool:
    """Return whether data born at `source` may go to `target`, which may be the same node.

    None stands for a node that does not exist (any more): its site cannot be proved.
    """
    if source is None or target is None:
        return reach == "Any"
    return source.name == target.name or may_leave(reach, source.site, target.site)
