"""Registry addresses: which hosts are accessed without TLS."""

import pytest

from maleo_artifacts.registry import Location


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("localhost", "http"),
        ("LocalHost:5000", "http"),
        ("127.0.0.1", "http"),
        ("10.0.0.1:5000", "http"),
        ("[::1]", "http"),
        ("[::1]:5000", "http"),
        ("[fd00::1]", "http"),
        ("[fd00::1]:5000", "http"),
        ("[fd00::1", "https"),
        ("8.8.8.8", "https"),
        ("[2606:4700::1]", "https"),
        ("[2606:4700::1]:443", "https"),
        ("localhost.example.com", "https"),
        ("registry:5000", "https"),
    ],
)
def test_location__uses_plain_http_for_private_addresses_only(host: str, scheme: str) -> None:
    assert Location.parse(f"oci://{host}/models/net").url(()) == f"{scheme}://{host}/v2/models/net"
