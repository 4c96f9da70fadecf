"""Former words of the glossary are not used again: the standard terms are used everywhere."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from support.paths import ROOT

FOLDERS: Final = (
    "operator", "planner", "node_agent", "runtime", "lib", "crds", "cli", "devcluster", "demo", "charts", "docs",
    "examples", "benchmarks", "tools", "README.md", "CONTRIBUTING.md",
)  # fmt: skip
EXCEPTIONS: Final = {
    "docs/glossary.md": "lists the former names",
    "tools/compare_plans.py": "reads the plans of versions that use the former names",
}
"""File -> why it may use the words."""
WORDS: Final = {
    "anew": "again", "bearable": "wait budget", "beside": "co-located, in addition to", "edition": "runnable variant",
    "holdings": "reservations", "lattice": "partition graph", "least bad": "closest infeasible",
    "leeway": "latency slack", "newcomer": "arriving mission", "is no variant": "unknown variant",
    "refusals": "rejections", "standing": "readiness",
    "told": "message, assigned", "wording": "text output", "would do": "suggested change",
}  # fmt: skip
"""Former word -> standard term, as in the glossary."""


def _files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *FOLDERS], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and name not in EXCEPTIONS]


@pytest.mark.parametrize("word", WORDS)
def test_former_word__is_used_nowhere(word: str) -> None:
    pattern = re.compile(rf"\b{word.replace(' ', r'[ _]')}s?\b", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in _files()
        if file.suffix in {".py", ".md", ".yaml", ".json", ".toml", ".txt", ".sh"}
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, f"write {WORDS[word]!r} in place of {word!r}"
