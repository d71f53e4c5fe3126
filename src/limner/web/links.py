"""The URLs in answers and events. Where keys are required, those of pictures are signed, so that `<img src>` works."""

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = 4
"""A picture's URL changes so often in its lifetime, and not with each answer, so that browsers can keep the picture."""


class Seal:
    """Signs texts with HMAC-SHA256. The first secret signs; all verify, so that secrets can be replaced."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets]

    def sign(self, purpose: str, text: str) -> str:
        """The signature of a text. Those of one purpose are not valid for another."""
        return _signature(self._secrets[0], purpose, text)

    def verify(self, purpose: str, text: str, signature: str) -> bool:
        """Whether it is the signature of this text. The comparison takes the same time for every wrong one."""
        given = signature.encode()
        return any(hmac.compare_digest(_signature(secret, purpose, text).encode(), given) for secret in self._secrets)


def _signature(secret: bytes, purpose: str, text: str) -> str:
    digest = hmac.digest(secret, f"{purpose}\n{text}".encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, eq=False)
class PictureSeal:
    """Signs the paths of pictures until a time."""

    seal: Seal
    lifetime_s: float

    def query(self, path: str) -> str:
        """The query that makes the path usable without a key, for at least the lifetime and a quarter more at most."""
        step = max(self.lifetime_s / STEPS, 1)
        expires = int((time.time() + self.lifetime_s) // step * step + step)
        signature = self.seal.sign("picture", f"{path}\n{expires}")
        return f"?expires={expires}&signature={signature}"

    def seconds_left(self, path: str, expires: str, signature: str) -> float | None:
        """How long the signed path is valid; 0 or less when it has expired, None for a wrong signature."""
        if not self.seal.verify("picture", f"{path}\n{expires}", signature):
            return None
        return int(expires) - time.time()  # it is ours, so it is a number


@dataclass(frozen=True, eq=False)
class Links:
    """Makes URLs that begin with `base`, which has no slash at its end.

    Compared by identity, because each event looks up its texts by it once a socket: `Services.links` keeps them.
    """

    base: str
    seal: PictureSeal | None = None
    """None: pictures need no signature."""

    def to(self, path: str) -> str:
        """The URL of a path of the service."""
        return self.base + path

    def job(self, job_id: str) -> str:
        """The URL of a job."""
        return f"{self.base}/v1/jobs/{job_id}"

    def artifact(self, job_id: str, name: str) -> str:
        """The URL of an artifact."""
        return self.picture(f"/v1/jobs/{job_id}/artifacts/{name}")

    def input(self, job_id: str, name: str) -> str:
        """The URL of a picture that was sent."""
        return self.picture(f"/v1/jobs/{job_id}/inputs/{name}")

    def photo(self, job_id: str) -> str:
        """The URL of the photo that was sent."""
        return self.picture(f"/v1/jobs/{job_id}/photo")

    def thumbnail(self, job_id: str) -> str:
        """The URL of a job's thumbnail."""
        return self.picture(f"/v1/jobs/{job_id}/thumbnail")

    def preview(self, job_id: str) -> str:
        """The URL of a running job's preview."""
        return self.picture(f"/v1/jobs/{job_id}/preview")

    def picture(self, path: str) -> str:
        """The URL of a path that serves a picture."""
        return self.base + path + (self.seal.query(path) if self.seal is not None else "")
