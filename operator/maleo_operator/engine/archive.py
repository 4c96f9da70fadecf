"""The inputs of the last decisions, by digest, so that a Placement can be planned again elsewhere."""

import logging
import re
from pathlib import Path
from typing import Final

log: Final = logging.getLogger("maleo.archive")
_MOST: Final = 200
_MOST_BYTES: Final = 64 << 20
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Archive:
    """Files `<hexadecimal digest>.json` in one folder: the newest, up to 200 and 64 MiB. None: nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def keep(self, digest: str, inputs: bytes) -> None:
        """What cannot be written is logged: no decision waits for it."""
        if self._folder is None or not _DIGEST.fullmatch(digest):
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{digest.removeprefix('sha256:')}.json").write_bytes(inputs)
            newest_first = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
            size = 0
            for place, file in enumerate(newest_first):
                size += file.stat().st_size
                if place >= _MOST or (place and size > _MOST_BYTES):
                    file.unlink()
        except OSError as error:
            log.warning("inputs of a decision are not kept: %s", error)
