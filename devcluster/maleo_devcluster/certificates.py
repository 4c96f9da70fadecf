"""Temporary certificate authority of one cluster, and its kubeconfigs."""

import datetime as dt
import ipaddress
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME: Final = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a certificate, or a public key, and of its private key."""

    certificate: Path
    key: Path


class Authority:
    """Certificate authority of a cluster; all files are in `folder`, which only the owner can read."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "maleo-devcluster")])
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "ca.crt"
        self.key = _write_key(folder / "ca.key", self._key)
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, common_name: str, organisation: str = "", names: Sequence[str] = (), server: bool = False
    ) -> KeyPair:
        """Issue a client certificate. server: also valid for a server; names: its DNS names or IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organisation:
            subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            _builder(x509.Name(subject), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer_id, critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        certificate = self.folder / f"{name}.crt"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return KeyPair(certificate=certificate, key=_write_key(self.folder / f"{name}.key", key))

    def make_service_account_keys(self) -> KeyPair:
        """Create the RSA key pair that signs ServiceAccount tokens; `certificate` is the public key."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self.folder / "sa.pub"
        public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        return KeyPair(certificate=public, key=_write_key(self.folder / "sa.key", key))

    def write_kubeconfig(self, path: Path, *, server: str, user: KeyPair) -> Path:
        """Write a kubeconfig with embedded credentials, independent of other files; return its path."""
        cluster = {"server": server, "certificate-authority-data": _base64(self.certificate)}
        account = {
            "client-certificate-data": _base64(user.certificate),
            "client-key-data": _base64(user.key),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "maleo", "cluster": cluster}],
            "users": [{"name": "maleo", "user": account}],
            "contexts": [{"name": "maleo", "context": {"cluster": "maleo", "user": "maleo"}}],
            "current-context": "maleo",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return path


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()
