"""Folders of the repository."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
MUST_FAIL: Final = ROOT / "tests/must_fail"
"""Manifests that must be rejected."""
