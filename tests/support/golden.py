"""Golden files of stored and transmitted formats. MALEO_ACCEPT=1 writes them again; review the difference."""

import os
from pathlib import Path

from support.paths import ROOT

_PER_LINE = 40


def check(path: Path, text: str) -> None:
    """Fail unless the file has this text: programs and stored data of other versions would not understand it."""
    if os.environ.get("MALEO_ACCEPT"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    name = path.relative_to(ROOT)
    assert path.is_file(), f"{name}: missing; MALEO_ACCEPT=1 writes it"
    message = f"the format differs from {name}; if that is intended, accept it with MALEO_ACCEPT=1"
    assert path.read_text(encoding="utf-8") == text, message


def to_hex(data: bytes) -> str:
    """Return the bytes as lines of hexadecimal text."""
    return "".join(f"{data[at : at + _PER_LINE].hex()}\n" for at in range(0, len(data), _PER_LINE))


def read_hex(path: Path) -> bytes:
    """Return the bytes of a file that was written by `to_hex`."""
    return bytes.fromhex(path.read_text(encoding="utf-8"))
