"""Every module has tests that name it, and tests lie where their module's name leads.

A test names a module by importing it, or by its own name: tests/unit/planner/graph/test_lagrangian.py names
maleo_planner.graph.lagrangian.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from support.paths import ROOT

PACKAGES: Final = {
    "agent": "node_agent/maleo_agent",
    "api": "crds/maleo_api",
    "artifacts": "lib/maleo_artifacts",
    "cli": "cli/maleo_cli",
    "demo": "demo/maleo_demo",
    "devcluster": "devcluster/maleo_devcluster",
    "kube": "lib/maleo_kube",
    "operator": "operator/maleo_operator",
    "planner": "planner/maleo_planner",
    "processcluster": "processcluster/maleo_processcluster",
    "runtime": "runtime/maleo_runtime",
    "service": "lib/maleo_service",
    "wire": "lib/maleo_wire",
}
"""Folder of tests -> package that it mirrors."""
LEVELS: Final = ("unit", "contract", "cluster")

WITHOUT_DECISIONS: Final = {
    "maleo_planner.types.numeric": "types of arrays, and one constant",
}
"""Module -> why it needs no test of its own."""
TESTED_AS_A_WHOLE: Final = {
    "maleo_artifacts.download": "tests/contract/artifacts/test_registry.py",
    "maleo_cli.__main__": "tests/unit/cli/test_main.py",
    "maleo_cli.commands.replay": "tests/unit/cli/commands/test_plan.py",
    "maleo_demo.access": "tests/contract/demo/test_provider.py",
    "maleo_demo.devcluster": "tests/e2e/test_demo.py",
    "maleo_demo.local_cluster": "tests/e2e/test_demo.py",
    "maleo_demo.shaping": "tests/e2e/test_links.py",
    "maleo_devcluster.node": "tests/e2e/test_demo.py",
    "maleo_kube.leases": "tests/cluster/agent/test_lease.py",
    "maleo_operator.app": "tests/cluster/operator/test_operator.py",
    "maleo_processcluster.network_main": "tests/cluster/processcluster/test_cluster.py",
    "maleo_processcluster.node_main": "tests/cluster/processcluster/test_cluster.py",
    "maleo_processcluster.pod_runner": "tests/cluster/processcluster/test_node_runner.py",
    "maleo_runtime.server": "tests/contract/runtime/test_endpoints.py",
}
"""Module -> test of the whole of which it is a part, through sockets or processes."""


def _modules() -> dict[str, str]:
    """Return module -> folder of tests that mirrors its package, without package files."""
    found = {}
    for area, folder in PACKAGES.items():
        package = ROOT / folder
        for file in package.rglob("*.py"):
            if file.name != "__init__.py":
                found[".".join(file.relative_to(package.parent).with_suffix("").parts)] = area
    return found


MODULES: Final = _modules()


def _tests() -> Iterator[Path]:
    return (ROOT / "tests").rglob("test_*.py")


def _imported(file: Path) -> Iterator[str]:
    """Yield the modules that a file imports, and all names that it imports from modules."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _named() -> frozenset[str]:
    """Return the modules that some test names."""
    by_import = {name for file in _tests() for name in _imported(file)}
    return frozenset(by_import | {name for file in _tests() if (name := _mirrored(file)) is not None})


def _mirrored(file: Path) -> str | None:
    """Return the module that the name of a test file stands for, or None."""
    level, area, *rest = file.relative_to(ROOT / "tests").parts
    if level not in LEVELS or area not in PACKAGES or not rest:
        return None
    package = PACKAGES[area].rpartition("/")[2]
    module = file.stem.removeprefix("test_")
    return ".".join([package, *rest[:-1], module])


def test_every_module__is_named_by_a_test() -> None:
    unnamed = MODULES.keys() - _named() - WITHOUT_DECISIONS.keys() - TESTED_AS_A_WHOLE.keys()
    assert not unnamed, "add a test that imports each, such as tests/unit/AREA/.../test_MODULE.py"


def test_exceptions__are_of_modules_that_exist_and_that_no_test_names() -> None:
    listed = WITHOUT_DECISIONS.keys() | TESTED_AS_A_WHOLE.keys()
    assert listed <= MODULES.keys()
    assert not listed & _named(), "a test names them now: remove the exception"
    assert all((ROOT / file).is_file() for file in TESTED_AS_A_WHOLE.values())


@pytest.mark.parametrize("level", LEVELS)
def test_folders_of_tests__mirror_packages(level: str) -> None:
    """Each folder is that of a package or a subpackage, or one of these few."""
    extra = {"unit/docs", "unit/planner/oracle", "contract/charts", "contract/tools", "cluster/charts"}
    for file in (ROOT / "tests" / level).rglob("test_*.py"):
        folder = file.parent.relative_to(ROOT / "tests")
        if str(folder) in extra:
            continue
        _, area, *rest = folder.parts
        assert area in PACKAGES, f"{file}: no such area"
        assert (ROOT / PACKAGES[area]).joinpath(*rest).is_dir(), f"{file}: no such package"


def test_support__is_imported_by_its_package_name_alone() -> None:
    modules = {file.stem for file in (ROOT / "tests/support").rglob("*.py")} - {"__init__"}
    loose = {(file.name, name) for file in _tests() for name in _imported(file) if name in modules - {"operator"}}
    assert not loose
