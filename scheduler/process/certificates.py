"""Makes a private authority and a certificate for the processes of one service."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scheduler.core.errors import ConfigurationError
from scheduler.process.tls import AUTHORITY, CERTIFICATE, KEY, NAME

_CLOCK_SKEW = dt.timedelta(minutes=5)


def make(folder: Path, *, days: int, now: dt.datetime, hosts: Sequence[str] = ()) -> None:
    """Writes `ca.crt`, `tls.crt` and `tls.key` into a folder.

    The key of the authority is thrown away: a set is renewed by making another one for all
    roles, not by adding to it.

    Args:
        folder: Where; made if need be, readable by its owner alone.
        days: For how long they are valid.
        now: The time, with its zone.
        hosts: Names and addresses that it is made out to, besides that of the service.

    Raises:
        ConfigurationError: The folder holds some already, or cannot be written.
    """
    names = (AUTHORITY, CERTIFICATE, KEY)
    if any((folder / name).exists() for name in names):
        raise ConfigurationError("the folder holds certificates already; choose an empty one")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = _named(f"{NAME} authority")
    start, end = now - _CLOCK_SKEW, now + dt.timedelta(days=days)
    # All our authorities have one name: where several are believed, this tells them apart.
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    authority = (
        _begun(authority_name, authority_name, authority_key, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _begun(_named(NAME), authority_name, key, start, end)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in zip(
            names,
            (authority.public_bytes(pem), certificate.public_bytes(pem), private),
            strict=True,
        ):
            _write(folder / name, content)
    except OSError as error:
        raise ConfigurationError("the folder cannot be written") from error


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(NAME)]
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
