"""The pages and settings for contributors are compared with the project: paths, targets, records, terms and news."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from maleo_cli.main import app
from support.paths import ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for top in ("docs", "examples", "changes.d", ".github") for path in (ROOT / top).rglob("*.md")),
    ]
)
_BIN = Path(sys.executable).parent
_CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
_TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
_COMMIT = runpy.run_path(str(ROOT / "tools/commit_message.py"))
_RECORDS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
_TYPES = [
    kind["directory"]
    for kind in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]["type"]
]


def _code(text: str) -> list[str]:
    """Return the commands and names in code: lines of blocks, and inline code outside of them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line.partition("#")[0] for block in blocks for line in block.splitlines()] + inline


def _tables(text: str) -> list[list[str]]:
    """Return the cells of all table rows, headers included."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in row] for row in rows]


def _slug(heading: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).strip().replace(" ", "-")


# ------------------------------------------------------------------------------------------------ CONTRIBUTING


def test_targets__exist_in_the_makefile() -> None:
    named = {target for code in _code(_CONTRIBUTING) for target in re.findall(r"\bmake ([a-z0-9-]+)", code)}
    assert {"lint", "unit", "cluster", "wheel", "e2e", "kind", "test", "crds"} <= named
    assert named <= _TARGETS


def test_paths__exist() -> None:
    named = {word.rstrip(".,;") for code in _code(_CONTRIBUTING) for word in code.split() if "/" in word}
    named -= {word for word in named if word.startswith("maleo_") or "=" in word}
    assert len(named) > 30
    for word in sorted(named):
        path, _, test = word.partition("::")
        if path.startswith(".venv/bin/"):
            assert (_BIN / Path(path).name).exists(), word
            continue
        found = list(ROOT.glob(path.rstrip("/")))
        assert found, word
        assert not test or f"def {test}(" in found[0].read_text(encoding="utf-8"), word


def test_modules__that_commands_run_exist() -> None:
    named = {module for code in _code(_CONTRIBUTING) for module in re.findall(r" -m ([\w.]+)", code)}
    assert named
    assert all(find_spec(module) for module in named)


def test_variables__are_read_by_the_project() -> None:
    named = set(re.findall(r"\bMALEO_[A-Z]+\b", _CONTRIBUTING))
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    read = {
        name
        for path in sources
        if path != Path(__file__)
        for name in re.findall(r"MALEO_[A-Z]+", path.read_text("utf-8"))
    }
    assert named <= read


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links__lead_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, link


# ------------------------------------------------------------------------------------------------ commits


def test_areas__match_the_check() -> None:
    section = _CONTRIBUTING.partition("| area | covers |")[2].partition("\n\n")[0]
    named = [name for row in _tables(section) for name in re.findall(r"`([a-z0-9]+)`", row[0])]
    assert sorted(named) == sorted(_COMMIT["AREAS"])
    assert f"at most {_COMMIT['LONGEST']} characters" in _CONTRIBUTING


def test_example_commit__passes_the_check() -> None:
    example = next(block for block in _CONTRIBUTING.split("```\n") if block.startswith("planner: "))
    assert _COMMIT["check"](example) == []


_BODY = "\n\nWhy it is done.\n\nTested: one test that failed before.\n"
_SCISSORS = "# ------------------------ >8 ------------------------\ndiff --git a/x b/x\n"


@pytest.mark.parametrize(
    "message",
    [
        f"planner: keep places with measured energy in the priced bound{_BODY}",
        f"api: pass an unknown field by{_BODY}",
        f"cli: need no cluster for the help{_BODY}",
        f"wire: re-send a frame that was not acknowledged{_BODY}",
        f"docs: list targets: lint, unit and cluster{_BODY}",
        f"# a comment of the editor\nbuild: pin the actions of the workflow\n# another one{_BODY}{_SCISSORS}",
        "fixup! planner: keep places with measured energy in the priced bound\n",
        "Merge branch 'planner'\n",
    ],
)
def test_good_message__is_accepted(message: str) -> None:
    assert _COMMIT["check"](message) == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (f"Keep places with measured energy{_BODY}", "the subject must begin with `area: `"),
        (f"solver: keep places with measured energy{_BODY}", "where area is one of api, planner, reconcilers"),
        (f"planner:keep places{_BODY}", "the subject must begin with `area: `"),
        (f"planner: keep {'all ' * 16}places{_BODY}", "characters, the maximum is 72"),
        (f"planner: keep places.{_BODY}", "must not end with a full stop"),
        (f"planner: Keep places{_BODY}", "imperative verb in lower case"),
        (f"planner: kept, added{_BODY}", "imperative verb in lower case"),
        (f"planner: added a bound{_BODY}", "not 'added'"),
        (f"planner: adds a bound{_BODY}", "not 'adds'"),
        (f"planner: adding a bound{_BODY}", "not 'adding'"),
        ("planner: add a bound\n", "the body is missing"),
        ("planner: add a bound\n# only comments\n", "the body is missing"),
        ("planner: add a bound\nwithout a blank line\n", "the second line must be blank"),
        ("", "the subject must begin with `area: `"),
    ],
)
def test_bad_message__is_rejected_with_its_problem(message: str, problem: str) -> None:
    assert any(problem in reported for reported in _COMMIT["check"](message))


# ------------------------------------------------------------------------------------------------ hooks and CI


def test_hooks__use_the_projects_environment_only() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        program, *words = hook["entry"].split()
        assert hook["language"] == "system"
        assert program.startswith(".venv/bin/")
        assert (_BIN / Path(program).name).exists(), program
        assert all((ROOT / word).exists() for word in words if "/" in word or word.endswith((".py", ".toml")))


def test_workflow__calls_make_targets_and_pins_actions_by_full_version() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text(encoding="utf-8"))["jobs"]
    steps: list[dict[str, Any]] = [step for job in jobs.values() for step in job["steps"]]
    targets = [found[1] for step in steps if (found := re.match(r"make ([a-z0-9-]+)", step.get("run", "")))]
    assert {"lint", "unit", "cluster", "wheel", "demo"} <= set(targets) <= _TARGETS
    used = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", action) for action in used), used


# ------------------------------------------------------------------------------------------------ decisions


def test_decisions__are_numbered_without_a_gap_and_listed_in_order() -> None:
    assert [int(path.name[:4]) for path in _RECORDS] == list(range(1, len(_RECORDS) + 1))
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[\d{4}\]\(([^)]+)\) \| \S", index, re.MULTILINE) == [path.name for path in _RECORDS]


@pytest.mark.parametrize("record", _RECORDS, ids=lambda path: path.stem)
def test_decision__has_its_sections_and_the_title_of_the_index(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    title = re.match(rf"# {record.name[:4]}: (.+)\n", text)
    assert title is not None
    assert f"({record.name}) | {title[1]} |" in (record.parent / "README.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)\n\n(?=\S)", text, re.MULTILINE)
    assert sections == ["Context", "Decision", "Consequences", "Alternatives"]


# ------------------------------------------------------------------------------------------------ glossary


def _terms() -> list[str]:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").partition("## Former names")[0]
    return [term for row in _tables(page) if row[0] != "term" for term in row[0].split(", ")]


def _pattern(term: str) -> str:
    """Return a pattern of the term that also finds it as a name in code."""
    return "[ _-]?".join(map(re.escape, term.split()))


def test_terms__are_defined_once_and_used() -> None:
    terms = _terms()
    assert len(terms) == len(set(terms)) > 50
    sources = [page for page in PAGES if page.name != "glossary.md"]
    for folder in ("crds", "lib", "planner", "operator", "node_agent", "runtime", "cli", "devcluster", "demo"):
        sources += (ROOT / folder).rglob("*.py")
    used = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    unused = [term for term in terms if not re.search(rf"\b{_pattern(term)}s?\b", used, re.IGNORECASE)]
    assert unused == []


def test_former_names__are_listed_once_with_a_new_one() -> None:
    rows = _former_names()
    former = [row[0] for row in rows]
    assert len(former) == len(set(former)) > 50
    assert all(len(row) == 2 and row[1] and row[1] != row[0] for row in rows)


def test_current_names__exist() -> None:
    names = [row[1].strip("`") for row in _former_names() if row[1].startswith("`")]
    assert len(names) > 50
    for name in names:
        module, _, symbol = name.rpartition(".")
        assert hasattr(import_module(module), symbol) if symbol[0].isupper() else find_spec(name), name


def _former_names() -> list[list[str]]:
    """Return the rows (former name, name now) of all tables."""
    section = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").partition("## Former names")[2]
    return [row for row in _tables(section) if not row[0].startswith("former ")]


# ------------------------------------------------------------------------------------------------ news


def test_types_of_news__are_explained() -> None:
    page = (ROOT / "changes.d/README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == _TYPES


def test_news__have_a_valid_name_and_a_text() -> None:
    for fragment in (ROOT / "changes.d").iterdir():
        if fragment.name != "README.md":
            assert re.fullmatch(rf"(\+[a-z0-9-]+|[0-9]+)\.({'|'.join(_TYPES)})\.md", fragment.name), fragment.name
            assert fragment.read_text(encoding="utf-8").strip(), fragment.name


def test_news__are_rendered_by_towncrier() -> None:
    command = [_BIN / "towncrier", "build", "--draft", "--version", "9.9.9", "--dir", ROOT]
    draft = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    texts = [path.read_text(encoding="utf-8").strip() for path in (ROOT / "changes.d").glob("*.*.md")]
    assert "## 9.9.9 (" in draft
    assert all(text in draft for text in texts)


def test_changelog__has_the_place_where_releases_are_inserted() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changelog.count("\n<!-- towncrier release notes start -->\n") == 1


# ------------------------------------------------------------------------------------------------ examples


def test_examples__have_the_plans_that_their_page_lists() -> None:
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[([\w-]+)\]\(missions/\1\.yaml\) \| .* \| ([^|]+) \|$", page, re.MULTILINE))
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "examples/missions").glob("*.yaml"))
    for mission, result in listed.items():
        plan = yaml.safe_load((ROOT / f"tests/golden/{mission}.yaml").read_text(encoding="utf-8"))
        nodes = " > ".join(part["node"] for part in plan["partitions"])
        assert result == (f"{plan['mode']}, {plan['variant']}, {nodes}" if plan["feasible"] else "none"), mission


def test_commands_of_the_examples__succeed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first one, which plans the whole fleet, is the README's, and run by its test."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    first, *others = [line for line in _code(page) if line.startswith("maleo plan -f")]
    assert f"$ {first}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(others) == 4
    for command in others:
        words = command.replace("build/plan.svg", str(tmp_path / "plan.svg")).split()[1:]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == (1 if "--without" in command else 0), (command, result.output)
    assert (tmp_path / "plan.svg").is_file()
