"""Variables of Services in the environment of containers."""

from typing import Any

import pytest

from maleo_processcluster.service_variables import find_variables


def service(address: str | None, *ports: int) -> dict[str, Any]:
    spec: dict[str, Any] = {"ports": [{"port": port} for port in ports]}
    return {"spec": spec if address is None else {**spec, "clusterIP": address}}


def test_service__has_variables_of_its_address_and_first_port() -> None:
    assert find_variables({"demo/web-api": service("127.77.192.1", 80, 81)}, "demo") == {
        "WEB_API_SERVICE_HOST": "127.77.192.1",
        "WEB_API_SERVICE_PORT": "80",
    }


def test_services_of_other_namespaces__are_left_out() -> None:
    services = {"demo/a": service("127.77.192.1", 80), "demo-2/b": service("127.77.192.2", 80)}
    assert set(find_variables(services, "demo")) == {"A_SERVICE_HOST", "A_SERVICE_PORT"}
    assert find_variables(services, "other") == {}


@pytest.mark.parametrize("address", ["None", "", None])
def test_service_without_an_address__has_none(address: str | None) -> None:
    assert find_variables({"demo/a": service(address)}, "demo") == {}
