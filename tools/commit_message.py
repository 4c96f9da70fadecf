"""Check commit messages: `commit_message.py FILE` as git's commit-msg hook, `commit_message.py --range A..B` in CI.

Form: `area: summary` with an imperative summary, at most 72 characters; a blank line; a body that says why the change
is made and how it was tested. Only the standard library is used: the hook works without the project's environment.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

AREAS: Final = (
    "api", "planner", "reconcilers", "engine", "ingest", "operator", "agent", "runtime", "service", "wire", "kube",
    "artifacts", "cli", "import", "chart", "demo", "devcluster", "processcluster", "docs", "examples", "tests",
    "benchmarks", "build", "images", "tools", "layout", "planning",
)  # fmt: skip
LONGEST: Final = 72
"""Maximum characters of a subject; git and code hosts cut longer ones."""

_SCISSORS: Final = re.compile(r"^# -+ >8 -+$", re.MULTILINE)
"""Line from which `git commit --verbose` appends the diff."""
_PROVISIONAL: Final = ("fixup! ", "squash! ", "amend! ", "Merge ")
"""Subjects that git writes itself: commits to be squashed before review, and merges."""
# English has no rule that tells `reads` from `pass`: these endings are rejected, except for the words below them.
_NOT_IMPERATIVE: Final = {
    "ing": frozenset({"bring", "ping", "ring", "string", "swing"}),
    "ed": frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "shed", "speed", "succeed"}),
    "s": frozenset({"alias", "bias", "canvas", "focus"}),
}


def check(message: str) -> list[str]:
    """Return what is wrong with a commit message, as sentences; an empty list if nothing is.

    message: the text of the commit, or the file that git passes to the hook, with comment lines.
    """
    text = _SCISSORS.split(message)[0]
    lines = [line.rstrip() for line in text.strip().splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if subject.startswith(_PROVISIONAL):
        return []
    return [*_check_subject(subject), *_check_body(lines[1:])]


def _check_subject(subject: str) -> Iterator[str]:
    area, colon, summary = subject.partition(": ")
    if not colon or area not in AREAS:
        yield f"the subject must begin with `area: `, where area is one of {', '.join(AREAS)}: {subject!r}"
        return
    if len(subject) > LONGEST:
        yield f"the subject has {len(subject)} characters, the maximum is {LONGEST}: {subject!r}"
    if summary.endswith("."):
        yield f"the subject must not end with a full stop: {subject!r}"
    first = summary.partition(" ")[0]
    if not re.fullmatch(r"[a-z][a-z-]*", first) or not _is_imperative(first):
        yield f"the summary must begin with an imperative verb in lower case, such as `add` or `reject`, not {first!r}"


def _check_body(rest: list[str]) -> Iterator[str]:
    if not any(rest):
        yield "the body is missing: say why the change is made and how it was tested"
    elif rest[0]:
        yield "the second line must be blank: it separates the subject from the body"


def _is_imperative(word: str) -> bool:
    if word.endswith("ss"):
        return True
    return all(not word.endswith(ending) or word in verbs for ending, verbs in _NOT_IMPERATIVE.items())


def _read_range(commits: str) -> list[tuple[str, str]]:
    """Return (abbreviated hash, message) of the commits in a git range, merges left out."""
    log = ["git", "log", "--no-merges", "--format=%h%n%B%x00", commits, "--"]
    listed = subprocess.run(log, check=True, capture_output=True, text=True).stdout  # noqa: S603 - a list, no shell
    entries = [entry.strip().partition("\n") for entry in listed.split("\0") if entry.strip()]
    return [(commit, message) for commit, _, message in entries]


def main() -> int:
    """Print what is wrong; return exit code 1 if anything is."""
    parser = argparse.ArgumentParser(description="Check the form of commit messages (see CONTRIBUTING.md).")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="file with one message, as git passes it to the hook")
    source.add_argument("--range", metavar="A..B", help="check the commits of a git range instead")
    arguments = parser.parse_args()
    if arguments.range:
        messages = _read_range(arguments.range)
    else:
        messages = [("commit message", arguments.file.read_text(encoding="utf-8"))]
    problems = [f"{name}: {problem}" for name, message in messages for problem in check(message)]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
