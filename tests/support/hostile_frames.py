"""Telemetry frames of a hostile or broken peer: well-formed with implausible values, or malformed."""

import random
from collections.abc import Sequence
from typing import Any

from maleo_wire.ddsketch import Histogram
from maleo_wire.messages import (
    Frame,
    NodeReading,
    RevisionReport,
    Sketch,
    SlotReport,
    TransferReport,
    UnitReading,
    encode,
)

_INTEGERS = (0, 1, -1, 2, 8, 1000, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_NUMBERS = (0.0, -0.0, 1.0, 0.5, -5.0, 1e-320, 1e308, -1e308, 2e300, float("nan"), float("inf"), float("-inf"))


class Absurd:
    """Generator of hostile frames. names: slots, nodes and units of others that the peer claims to be."""

    def __init__(self, seed: int, names: Sequence[str]) -> None:
        self._chance = random.Random(seed)
        self._names = names

    def frame(self, sequence: int) -> Frame:
        """Return a well-formed frame. Its sequence number is correct, because others are ignored."""
        pick = self._chance.random()
        return Frame(
            sequence=sequence,
            at=self._number(),
            backfilled=pick < 0.1,
            slots=tuple(self._slot() for _ in range(self._count(5))),
            reading=self._reading() if pick < 0.5 else None,
        )

    def data(self, sequence: int) -> bytes:
        """Return an encoded frame; one in five is corrupted."""
        data = bytearray(encode(self.frame(sequence)))
        if self._chance.random() < 0.2:
            for _ in range(self._chance.randint(1, 8)):
                data[self._chance.randrange(len(data))] = self._chance.randrange(256)
            del data[self._chance.randrange(len(data)) :]
        return bytes(data)

    def _count(self, most: int) -> int:
        """Return a count, which is rarely too large."""
        return self._chance.choices((0, 1, 2, most), (30, 50, 18, 2))[0]

    def _integer(self) -> int:
        return self._chance.choice(_INTEGERS)

    def _signed(self) -> int:
        return min(self._integer(), 2**63 - 1)

    def _number(self) -> float:
        return self._chance.choice((*_NUMBERS, self._chance.uniform(0, 2)))

    def _maybe(self, value: Any) -> Any:
        return value if self._chance.random() < 0.7 else None

    def _name(self) -> str:
        return self._chance.choice((*self._names, *self._names, "", "x" * 400, f"v{self._integer()}", "a\nb", "\x00"))

    def _sketch(self) -> Sketch:
        if self._chance.random() < 0.6:
            sound = Histogram()
            for _ in range(self._chance.randint(0, 8)):
                sound.add(self._chance.uniform(0, 2))
            return sound.to_wire()
        buckets = {self._signed(): self._signed() for _ in range(self._chance.randint(0, 4))}
        return Sketch(buckets=buckets, count=self._signed(), total=self._number())

    def _transfer(self) -> TransferReport:
        return TransferReport(
            node=self._name(),
            requests=self._signed(),
            bytes=self._signed(),
            seconds=self._number(),
            least_s=self._maybe(self._number()),
        )

    def _revision(self) -> RevisionReport:
        end_to_end = self._maybe(self._sketch())
        likely = self._chance.random() < 0.6
        total = end_to_end.count if likely and end_to_end is not None else self._signed()
        return RevisionReport(
            revision=1 if likely else self._signed(),
            variant="fp32" if likely else self._name(),
            compute=self._sketch(),
            joules=self._maybe(self._number()),
            basis=self._chance.choice(("Measured", "Simulated", "Unknown", "Certain", "")),
            transfers=tuple(self._transfer() for _ in range(self._count(40))),
            end_to_end=end_to_end,
            total=total,
            over_limit=0 if likely else self._signed(),
            failed=0 if likely else self._signed(),
            fallback=0 if likely else self._signed(),
        )

    def _slot(self) -> SlotReport:
        return SlotReport(
            slot=self._name(),
            warm=tuple(self._signed() for _ in range(self._count(100))),
            active=self._maybe(self._signed()),
            highest_epoch=self._chance.choice((1, self._signed())),
            fallback_warm=self._chance.random() < 0.5,
            address=self._name(),
            revisions=tuple(self._revision() for _ in range(self._count(20))),
            errors=tuple(self._name() for _ in range(self._count(30))),
        )

    def _reading(self) -> NodeReading:
        units = tuple(
            UnitReading(
                unit=self._name(),
                basis=self._chance.choice(("Measured", "Simulated", "Certain")),
                temperature_c=self._maybe(self._number()),
                power_w=self._maybe(self._number()),
                energy_j=self._maybe(self._number()),
                utilization=self._maybe(self._number()),
                capacity=self._maybe(self._number()),
            )
            for _ in range(self._count(80))
        )
        return NodeReading(units=units, battery=self._maybe(self._number()))
