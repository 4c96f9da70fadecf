"""One Dockerfile for each component, none of which runs as root by itself."""

from pathlib import Path

import pytest

from maleo_devcluster.images import COMPONENTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("component", COMPONENTS)
def test_dockerfile__is_small_takes_any_base_and_is_not_root(component: str) -> None:
    lines = (ROOT / COMPONENTS[component] / "Dockerfile").read_text(encoding="utf-8").splitlines()
    verbs = [line.split()[0] for line in lines if line and not line.startswith(("#", " "))]
    assert verbs[:2] == ["ARG", "FROM"]
    assert "RUN" not in verbs, "building needs no network and no package manager"
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    assert user.split(":")[0] not in ("0", "root")
