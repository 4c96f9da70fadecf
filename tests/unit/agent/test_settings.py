"""Settings of the agent from the environment variables that the chart sets."""

import pytest

from maleo_agent.settings import Settings
from maleo_service.environment import InvalidVariable


def test_settings__without_lists_fetch_from_the_internet_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "drone-1")
    sources = Settings.read().address_policy
    assert (sources.registries, sources.plain_http, sources.denied_networks) == (frozenset(), frozenset(), ())


def test_settings__contain_the_registries_and_networks_of_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "drone-1")
    monkeypatch.setenv("MALEO_REGISTRIES", "10.0.0.5:5000,http://registry.internal:5000")
    monkeypatch.setenv("MALEO_REFUSED_NETWORKS", "2001:db8::/48")
    sources = Settings.read().address_policy
    assert sources.registries == {"10.0.0.5:5000", "registry.internal:5000"}
    assert sources.plain_http == {"registry.internal:5000"}
    assert sources.find_denial("2001:db8::1") == "a denied"


def test_settings__with_an_invalid_entry_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "drone-1")
    monkeypatch.setenv("MALEO_REGISTRIES", "registry.internal")
    with pytest.raises(InvalidVariable, match=r"MALEO_REGISTRIES.*invalid registry 'registry\.internal'"):
        Settings.read()
