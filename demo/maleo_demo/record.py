"""State of the demo in this checkout, kept in `build/demo.json` for later commands."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

PATH: Final = Path("build/demo.json")


@dataclass(frozen=True, slots=True)
class Record:
    """State of the demo. made: the cluster that the demo created and may delete; links: `one other` -> bandwidth."""

    provider: str
    made: str = ""
    links: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls) -> "Record | None":
        """Return the record of a demo that was not removed; None if there is none or it cannot be read."""
        try:
            return cls(**json.loads(PATH.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self) -> None:
        """Write the record, replacing an earlier one."""
        PATH.parent.mkdir(parents=True, exist_ok=True)
        PATH.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def with_links(self, links: dict[str, str]) -> "Record":
        """Return a copy with other limited links."""
        return replace(self, links=links)

    @staticmethod
    def remove() -> None:
        """Delete the record if there is one."""
        PATH.unlink(missing_ok=True)
