"""TLS of clients of a cluster's servers."""

import ssl

from maleo_devcluster.certificates import Authority, KeyPair


def make_client_tls(authority: Authority, pair: KeyPair | None) -> ssl.SSLContext:
    """Return the settings of a client that trusts the authority. pair: its certificate, None for none."""
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    if pair is not None:
        tls.load_cert_chain(pair.certificate, pair.key)
    return tls
