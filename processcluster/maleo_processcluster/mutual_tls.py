"""TLS settings of servers that accept only clients of the cluster."""

import ssl
from pathlib import Path


def make_tls(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """Return the TLS settings of a server. Only clients with a certificate of the authority are accepted."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(certificate, key)
    return tls
