"""Compare the plans of two versions of the planner over thousands of stored problems.

    python tools/compare_plans.py make FOLDER              write problems from the generators of the tests
    python tools/compare_plans.py plan FOLDER ANSWERS      plan them with the planner on PYTHONPATH
    python tools/compare_plans.py diff ANSWERS ANSWERS     compare; exit code 1 if any answer differs

The second step runs once with each version: PYTHONPATH names the folders of a checkout (`--print-path CHECKOUT` prints
it). Figures are compared to the last digit.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import msgspec

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = ("crds", "lib", "planner", "operator", "cli", "tests")
_TEXTS = frozenset({"message", "source", "example", "margin"})
_KINDS = {
    "one": (800, {"blocks": 6, "nodes": 5}),
    "every": (1200, {"blocks": 5, "nodes": 4}),
    "fleet": (60, {"missions": 12, "nodes": 5}),
}
"""Generator -> number of problems and its arguments."""
_RENAMED = {"is_whole": "is_complete", "least_bad": "closest", "letter": "objective", "staying": "incumbent"}
"""Former field -> present field of the answers, so that answers of older versions can be compared."""


def _problems() -> Iterator[tuple[str, bytes]]:
    from maleo_planner.types import serialization  # noqa: PLC0415
    from support.planner.generators import every_kind, fleet, one_mission  # noqa: PLC0415 - of the checkout, as below

    makers = {"one": one_mission, "every": every_kind, "fleet": fleet}
    for kind, (count, arguments) in _KINDS.items():
        for seed in range(count):
            found = makers[kind](Random(f"{kind}-{seed}"), **arguments)  # noqa: S311 - reproducible
            key = "" if kind == "fleet" else "default/watch"
            yield f"{kind}-{seed:04}.json", serialization.encode(found, key)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in _problems():
        (folder / name).write_bytes(data)


def _plan(file: Path) -> tuple[str, str]:
    """Return the name of a problem and its answer as JSON: verdicts, and for one mission also its Pareto front."""
    from maleo_planner import pareto_front, plan, plan_fleet  # noqa: PLC0415 - of the version that is compared
    from maleo_planner.types.serialization import decode  # noqa: PLC0415

    snapshot, key, budgets = decode(file.read_bytes())
    if key:
        answer: Any = {"verdict": plan(snapshot, key, budgets=budgets), "front": pareto_front(snapshot, key)}
    else:
        answer = plan_fleet(snapshot, budgets=budgets).verdicts
    return file.name, msgspec.json.encode(answer, enc_hook=_to_plain, order="deterministic").decode()


def _to_plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True)


def _plan_all(folder: Path, answers: Path) -> None:
    files = sorted(folder.glob("*.json"))
    with ProcessPoolExecutor(os.cpu_count()) as pool, answers.open("w", encoding="utf-8") as out:
        for name, answer in pool.map(_plan, files, chunksize=8):
            out.write(f"{name}\t{answer}\n")
    print(f"{len(files)} problems planned")


def _rename(value: Any) -> Any:
    if isinstance(value, dict):
        return {_RENAMED.get(name, name): _rename(each) for name, each in value.items()}
    return [_rename(each) for each in value] if isinstance(value, list) else value


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_texts(each) for name, each in value.items() if name not in _TEXTS}
    return [_without_texts(each) for each in value] if isinstance(value, list) else value


def _read(answers: Path, *, texts: bool) -> dict[str, Any]:
    rows = (line.split("\t", 1) for line in answers.read_text(encoding="utf-8").splitlines())
    parsed = {name: _rename(json.loads(answer)) for name, answer in rows}
    return parsed if texts else {name: _without_texts(answer) for name, answer in parsed.items()}


def _diff(one: Path, other: Path, *, texts: bool) -> int:
    before, after = (_read(answers, texts=texts) for answers in (one, other))
    differing = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    print(f"{len(before)} problems, {len(differing)} answers differ{'' if texts else ' (texts left out)'}")
    for name in differing[:10]:
        print(f"  {name}")
    return 1 if differing else 0


def main() -> int:
    """Run one step. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print-path", metavar="CHECKOUT", type=Path, help="print the PYTHONPATH of a checkout")
    parser.add_argument("--texts", action="store_true", help="compare messages, sources and examples, too")
    parser.add_argument("step", nargs="?", choices=("make", "plan", "diff"))
    parser.add_argument("paths", nargs="*", type=Path)
    given = parser.parse_args()
    if given.print_path is not None:
        print(os.pathsep.join(str(given.print_path.resolve() / folder) for folder in _FOLDERS))
        return 0
    if given.step == "make":
        sys.path[:0] = [str(_ROOT / folder) for folder in _FOLDERS]
        _make(*given.paths)
    elif given.step == "plan":
        _plan_all(*given.paths)
    elif given.step == "diff":
        return _diff(*given.paths, texts=given.texts)
    else:
        parser.print_usage()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
