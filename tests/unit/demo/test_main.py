"""Commands that change the cluster of the last demo: links and nodes that do not exist are named with the remedy."""

import sys
from types import SimpleNamespace

import pytest

from maleo_demo import main

_SHAPED: list[tuple[str, str, str]] = []


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cluster of two nodes run."""
    _SHAPED.clear()
    cluster = SimpleNamespace(
        nodes={"drone-1": "drone-1", "edge-1": "edge-1"}, shape=lambda *link: _SHAPED.append(link)
    )
    monkeypatch.setattr(main, "current", lambda: cluster)


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["maleo-demo", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return ended.value.code


def test_link__is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "link", "drone-1", "edge-1", "20Mbit/s") == 0
    assert _SHAPED == [("drone-1", "edge-1", "20Mbit/s")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("link", "drone-1", "edge-1", "fast"), "maleo-demo: speed 'fast': invalid bandwidth: "),
        (("link", "drone-1", "edge-1", "0bit/s"), "a link has two nodes and a speed above 0; `make demo-kill`"),
        (("link", "drone-1", "drone-1", "1Mbit/s"), "a link has two nodes and a speed above 0; `make demo-kill`"),
        (("link", "drone-1", "moon", "1Mbit/s"), "unknown node 'moon': the nodes are drone-1, edge-1"),
        (("kill", "moon"), "unknown node 'moon': the nodes are drone-1, edge-1"),
    ],
)
def test_what_does_not_exist__is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    assert message in str(_run(monkeypatch, *words))
    assert _SHAPED == []
