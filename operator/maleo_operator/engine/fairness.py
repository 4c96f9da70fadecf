"""Order in which missions are planned: fair between namespaces, by rank within a namespace."""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Final

from maleo_planner import Rank

_QUANTUM_S: Final = 0.25
"""Granularity of start tags, in seconds: namespaces with start tags in the same quantum are ordered by rank."""


class FairShare:
    """Start-time fair queueing of planner seconds over namespaces (Goyal, Vin and Cheng, 1996).

    The namespace with the least use goes first, so that many expensive missions delay only their own namespace.
    Missions of criticality Safety, which need a permission of their own, have strict priority.
    """

    def __init__(self) -> None:
        self._used: dict[str, float] = {}  # namespace -> start tag, in seconds of virtual time
        self._clock = 0.0

    def order(self, due: Mapping[str, Rank]) -> Iterator[str]:
        """Yield the keys `namespace/name` of all due missions; call `charge` for a key before the next one is taken."""
        queues: dict[str, list[tuple[Rank, str]]] = {}
        for key, rank in due.items():
            queues.setdefault(key.partition("/")[0], []).append((rank, key))
        for queue in queues.values():
            queue.sort(reverse=True)
        self._used = {name: used for name, used in self._used.items() if used > self._clock}
        heads = [(*self._tag(name, queue[-1][0]), name) for name, queue in queues.items()]
        heapify(heads)
        while heads:
            *_, name = heappop(heads)
            rank, key = queues[name].pop()
            if rank[0] > 0:  # Safety is served out of tag order, so its tag must not advance the virtual clock
                self._clock = max(self._clock, self._start(name))
            yield key
            if queues[name]:
                heappush(heads, (*self._tag(name, queues[name][-1][0]), name))

    def charge(self, key: str, seconds: float) -> None:
        """Add the planning and decision time of a mission, in seconds, to the usage of its namespace."""
        namespace = key.partition("/")[0]
        self._used[namespace] = self._start(namespace) + seconds

    def _start(self, namespace: str) -> float:
        return max(self._used.get(namespace, 0.0), self._clock)

    def _tag(self, namespace: str, rank: Rank) -> tuple[bool, int, Rank]:
        return rank[0] > 0, int(self._start(namespace) / _QUANTUM_S), rank
