"""How httpx sends a request of `calls.py`: what both clients share."""

import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from limner import __version__
from limner.client.calls import MAX_ANSWER_BYTES, Answer, Ask, Lost, checked_key, checked_url
from limner.client.errors import UnexpectedAnswerError

REDIRECTS = (301, 302, 303, 307, 308)


class Sending:
    """The address and key of a service, and the time-out of each wait for the network."""

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        self.url = checked_url(url)
        self._timeout_s = timeout_s
        self._key = checked_key(key)

    def __repr__(self) -> str:
        return self.url

    def options(self, ask: Ask, *, silence_s: float | None = None) -> dict[str, Any]:
        """The arguments of httpx's `stream`. `silence_s`: the longest silence while an answer arrives."""
        headers = {"User-Agent": f"limner-client/{__version__}", **ask.headers}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        options: dict[str, Any] = {
            "method": ask.method,
            "url": self.url + ask.path,
            "params": dict(ask.query),
            "headers": headers,
            "timeout": httpx.Timeout(self._timeout_s, read=(silence_s or self._timeout_s) + ask.hold_s),
            "follow_redirects": False,  # a photo or a key must not go where a redirect leads
        }
        if ask.body is not None and ask.body.json is not None:
            options["json"] = ask.body.json
        elif ask.body is not None:
            options["data"] = ask.body.data
            # A name makes it a file; the photo's own name stays here.
            options["files"] = {name: (name, data) for name, data in ask.body.files.items()}
        return options

    def elsewhere(self, ask: Ask, answer: Answer) -> dict[str, Any] | None:
        """The arguments for the file to which an answer redirects, without the key; None if it is no redirect."""
        to = urljoin(self.url + ask.path, answer.headers.get("location", ""))
        if not ask.is_file or answer.status not in REDIRECTS or urlsplit(to).scheme not in ("http", "https"):
            return None
        return {**Sending(self.url, None, self._timeout_s).options(replace(ask, query={})), "url": to}


class Received:
    """An answer as it arrives, within `MAX_ANSWER_BYTES`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._body = bytearray()

    def add(self, chunk: bytes) -> None:
        """Take a part of the body. UnexpectedAnswerError when it is too much."""
        self._body += chunk
        if len(self._body) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswerError(f"The answer is larger than {MAX_ANSWER_BYTES:,} bytes.")

    def answer(self) -> Answer:
        """The whole answer."""
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        return Answer(self._response.status_code, headers, bytes(self._body))


def why(error: Exception, url: str) -> str:
    """What went wrong on the network, for a person; `url` has no secrets."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        cause = error.__cause__.__cause__ if error.__cause__ is not None else None
        certificate = isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error)
        return f"{url}: {'Its certificate is not trusted' if certificate else 'No connection'} ({error})."
    if isinstance(error, httpx.TimeoutException):
        return f"{url}: No answer in time."
    return f"{url}: The connection was lost ({error or type(error).__name__})."


def lost(error: Exception, url: str) -> Lost:
    """What is thrown into a call."""
    return Lost(why(error, url))
