"""Probes of containers: where they ask, and when their result changes."""

from typing import Any

import pytest

from maleo_processcluster.probe import HttpProbe, ProbeState

CONTAINER: dict[str, Any] = {
    "ports": [{"name": "health", "containerPort": 8081}],
    "livenessProbe": {"httpGet": {"path": "/healthz", "port": "health"}, "initialDelaySeconds": 10, "periodSeconds": 5},
    "readinessProbe": {"httpGet": {"port": 8080}, "failureThreshold": 1},
}


def test_probe__asks_the_named_port_of_the_pod() -> None:
    probe = HttpProbe.of(CONTAINER, "livenessProbe", "127.1.1.2")
    assert probe is not None
    assert (probe.url, probe.delay_s, probe.period_s) == ("http://127.1.1.2:8081/healthz", 10, 5)
    assert (probe.timeout_s, probe.failures, probe.successes) == (1, 3, 1)


def test_probe_without_path_and_with_a_number__has_the_defaults_of_kubernetes() -> None:
    probe = HttpProbe.of(CONTAINER, "readinessProbe", "127.1.1.2")
    assert probe is not None
    assert (probe.url, probe.period_s, probe.failures) == ("http://127.1.1.2:8080/", 10, 1)


@pytest.mark.parametrize("container", [{}, {"startupProbe": {}}, {"livenessProbe": {"exec": {"command": ["true"]}}}])
def test_container_without_an_http_probe__has_none(container: dict[str, Any]) -> None:
    assert HttpProbe.of(container, "livenessProbe", "127.1.1.2") is None


@pytest.mark.parametrize(
    ("passing", "answers", "changes"),
    [
        (False, [True], [0]),
        (True, [False, False, False], [2]),
        (True, [False, False, True, False, False], []),
        (True, [False, False, False, True], [2, 3]),
        (True, [True, True], []),
    ],
)
def test_result__changes_after_as_many_equal_answers_as_the_threshold(
    passing: bool, answers: list[bool], changes: list[int]
) -> None:
    probe = HttpProbe("http://x/", delay_s=0, period_s=1, timeout_s=1, failures=3, successes=1)
    state = ProbeState(probe, passing=passing)
    assert [number for number, answer in enumerate(answers) if state.record(success=answer)] == changes
