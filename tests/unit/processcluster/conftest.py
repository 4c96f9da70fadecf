"""Certificates of a cluster, for servers that accept only its clients."""

import pytest

from maleo_devcluster.certificates import Authority, KeyPair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def api_server(authority: Authority) -> KeyPair:
    """Return the certificate with which the API server connects to nodes."""
    return authority.issue("api", common_name="kube-apiserver", organisation="system:masters")
