"""Signs pictures with a C2PA manifest, which tells how they were made (https://spec.c2pa.org); needs `limner[c2pa]`.

c2pa-python is imported only where something is signed or checked. Each signature has a context of its own, because
c2pa's do not survive a fork.
"""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.domain.errors import SigningError
from limner.vision.provenance import SOURCE_TYPES, SourceType

if TYPE_CHECKING:
    from cryptography import x509

_MAX_FILE_BYTES = 100_000
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},  # a second picture in each file, larger than a small WebP itself
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},  # no network
}
_UNTRUSTED = "signingCredential.untrusted"  # whom to trust is decided by those who read the file
_TRIAL = (  # a PNG of one pixel
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9bU"
    b"\0\0\0\nIDATx\x9cch\0\0\0\x82\0\x81w\xcdr\xb6\0\0\0\0IEND\xaeB`\x82"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a picture."""

    source: SourceType
    tool: str
    version: str
    painter: str
    seed: int | None

    def manifest(self) -> dict[str, Any]:
        """The definition of the manifest, for c2pa."""
        action = {
            "action": "c2pa.created",
            "digitalSourceType": f"{SOURCE_TYPES}{self.source}",
            "softwareAgent": {"name": f"{self.tool} {self.painter}", "version": self.version},
        }
        seed = {} if self.seed is None else {"seed": self.seed}
        return {
            "claim_generator_info": [{"name": self.tool, "version": self.version}],
            "assertions": [
                {"label": "c2pa.actions", "data": {"actions": [action]}},
                {"label": "limner.painting", "data": {"painter": self.painter, **seed}},
            ],
        }


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of a certificate (PEM, the signer's first, then those that issued it) and its private key (PEM)."""

    certificate: Path
    key: Path

    def signed(self, data: bytes, media_type: str, claim: Claim) -> bytes:
        """The JPEG, PNG or WebP with a signed manifest. SigningError."""
        chain, key = _read(self.certificate), _read(self.key)
        return _signed(chain, key, _algorithm(_private_key(key, self.key)), data, media_type, claim)

    def check(self) -> None:
        """SigningError unless a picture can be signed now so that C2PA's own reader finds nothing wrong but trust."""
        chain, key = _read(self.certificate), _read(self.key)
        private = _private_key(key, self.key)
        if _public(private.public_key()) != _public(_certificate(chain, self.certificate).public_key()):
            raise SigningError(f"{self.key} is not the key of the first certificate in {self.certificate}.")
        claim = Claim("algorithmicallyEnhanced", tool="Limner", version="0", painter="trial", seed=0)
        signed = _signed(chain, key, _algorithm(private), _TRIAL, "image/png", claim)
        wrong = [each for each in problems(signed, "image/png") if each != _UNTRUSTED]
        if wrong:
            raise SigningError(f"What {self.certificate} signs is not valid: {', '.join(wrong)}.")


def is_installed() -> bool:
    """Whether `limner[c2pa]` is here."""
    from importlib.util import find_spec

    return find_spec("c2pa") is not None


def problems(data: bytes, media_type: str) -> list[str]:
    """What C2PA's reader finds wrong with a signed picture: its codes. SigningError if there is no manifest."""
    import c2pa

    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader,
        ):
            found: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError as error:
        raise SigningError(str(error)) from error
    return [str(each["code"]) for each in found.get("validation_status", [])]


def _signed(chain: bytes, key: bytes, algorithm: str, data: bytes, media_type: str, claim: Claim) -> bytes:
    import c2pa

    out = io.BytesIO()
    try:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(getattr(c2pa.C2paSigningAlg, algorithm), chain, key, None))
        with c2pa.Context.from_dict(_SETTINGS) as context, c2pa.Builder(claim.manifest(), context) as builder:
            builder.sign(signer, media_type, io.BytesIO(data), out)
    except c2pa.C2paError as error:
        raise SigningError(f"C2PA refuses to sign: {error}") from error
    return out.getvalue()


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SigningError(f"{file} cannot be read ({error.strerror}).") from error
    if len(data) > _MAX_FILE_BYTES:
        raise SigningError(f"{file} is larger than {_MAX_FILE_BYTES:,} bytes.")
    return data


def _certificate(chain: bytes, file: Path) -> "x509.Certificate":
    """The signer's certificate. SigningError if it is none, or is not valid now."""
    from cryptography import x509

    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise SigningError(f"{file} has no certificate in PEM.") from error
    now = datetime.now(UTC)
    if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        raise SigningError(
            f"The certificate in {file} is valid from {first.not_valid_before_utc:%Y-%m-%d} "
            f"to {first.not_valid_after_utc:%Y-%m-%d}."
        )
    return first


def _private_key(data: bytes, file: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise SigningError(f"{file} has no private key in PEM without a password.") from error


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _algorithm(key: Any) -> str:
    """The name of C2PA's algorithm for a kind of key. SigningError."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    by_curve = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in by_curve:
        return by_curve[key.curve.name]
    raise SigningError("The key must be of the curve P-256, P-384, P-521 or Ed25519, or RSA.")
