"""Components of one operator replica that its reconcilers share."""

from collections.abc import Callable
from dataclasses import dataclass

from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.writer import Writer
from maleo_operator.engine.decision_log import DecisionLog
from maleo_operator.engine.queue import DirtyQueue
from maleo_operator.ingest.publisher import DesiredStatePublisher
from maleo_operator.ingest.telemetry import TelemetryStore
from maleo_operator.metrics import Metrics
from maleo_operator.reconcilers.scope import SlotSettings


@dataclass(frozen=True, slots=True)
class Components:
    """Components of a replica, which outlive its terms as the leader.

    connected: names of the nodes whose agents are connected; namespace: of the operator.
    """

    cache: Cache
    writer: Writer
    publisher: DesiredStatePublisher
    telemetry: TelemetryStore
    queue: DirtyQueue
    metrics: Metrics
    decision_log: DecisionLog
    slot_settings: SlotSettings
    namespace: str
    connected: Callable[[], frozenset[str]]
