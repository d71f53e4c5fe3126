"""Certificates for signing pictures: an authority of the test's own, and what it has issued. Needs `limner[c2pa]`."""

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(common: str) -> x509.Name:
    names = ((NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, "Limner's tests"))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in names])


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Of a signer, or of an authority."""
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def issue(folder: Path, *, days: int = 90, key: Any = None, purpose: bool = True) -> tuple[Path, Path]:
    """The files of a certificate with its authority's, and of its key. It ends after `days`, maybe in the past.

    Without `purpose`, the certificate does not say that it may sign content, and C2PA refuses it.
    """
    authority, own = ec.generate_private_key(ec.SECP256R1()), key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def begun(subject: str, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    root = (
        begun("authority", authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .sign(authority, hashes.SHA256())
    )
    leaf = (
        begun("limner", own.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    if purpose:
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    pem = serialization.Encoding.PEM
    chain = leaf.sign(authority, hashes.SHA256()).public_bytes(pem) + root.public_bytes(pem)
    folder.mkdir(exist_ok=True)
    (folder / "certificate.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"
