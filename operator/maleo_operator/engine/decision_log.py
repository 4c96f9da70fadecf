"""Log of the inputs of recent decisions, addressed by digest, so that a Placement can be replanned offline."""

import logging
import re
from pathlib import Path
from typing import Final

log: Final = logging.getLogger("maleo.archive")
_MAX_FILES: Final = 200
_MAX_BYTES: Final = 64 << 20
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class DecisionLog:
    """Folder of `<hex digest>.json` files that keeps the newest 200, at most 64 MiB; disabled if `folder` is None."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def store(self, digest: str, inputs: bytes) -> None:
        """Store `inputs` under `digest` and delete the oldest files beyond the limits.

        I/O errors are logged, not raised: a full disk must not stop decisions.
        """
        if self._folder is None or not _DIGEST.fullmatch(digest):
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{digest.removeprefix('sha256:')}.json").write_bytes(inputs)
            newest_first = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
            size = 0
            for index, file in enumerate(newest_first):
                size += file.stat().st_size
                if index >= _MAX_FILES or (index and size > _MAX_BYTES):
                    file.unlink()
        except OSError as error:
            log.warning("cannot store the inputs of a decision: %s", error)
