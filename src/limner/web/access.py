"""Who may use the service from a browser: the host names it answers to, and the pages that may change something.

Where no keys are required, a foreign page must not reach it through a visitor's browser (DNS rebinding, cross-site
forms). Who may call which route is decided by `web/admission.py`.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from limner.domain.errors import ForbiddenError, HostNotAllowedError, LimnerError
from limner.settings import Settings, is_loopback
from limner.web import problems

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SAME_SITE = frozenset({"same-origin", "none"})  # `none`: the person did it, by the address bar or a bookmark
_OTHER_SITE = frozenset({"cross-site", "same-site"})


class Access:
    """ASGI middleware: 421 for a foreign `Host`, 403 for a write or a socket of a foreign page.

    Requests without `Origin` and `Sec-Fetch-Site` come from no browser; only their `Host` is looked at.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        own = urlsplit(settings.public_url) if settings.public_url else None
        named = (*settings.allowed_hosts, *([own.hostname] if own and own.hostname else []))
        self._any_host = "*" in named
        self._hosts = frozenset(name.lower().strip("[]").rstrip(".") for name in named) | {"localhost"}
        # On a loopback address, a name without a dot could be given by a stranger in the same network. Elsewhere that
        # stranger can connect without it, and `http://limner:8282` is how containers call each other.
        self._short_names = not is_loopback(settings.host)
        # The page's own origin, where a proxy in front has another name than the `Host` it passes on.
        self._origins = frozenset(
            (*settings.allowed_origins, *([f"{own.scheme}://{own.netloc}".lower()] if own else []))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refused.detail})
        else:
            await problems.response(refused)(scope, receive, send)

    def _refusal(self, scope: Scope) -> LimnerError | None:
        hosts = _values(scope, b"host")
        if not self._any_host and not all(self._is_own(host) for host in hosts):
            return HostNotAllowedError(
                "The service does not answer to this host name. If the name is its own, "
                "set LIMNER_PUBLIC_URL or LIMNER_ALLOWED_HOSTS."
            )
        if scope["type"] == "http" and scope["method"] in _SAFE:
            return None  # without CORS headers, no foreign page can read the answer
        if self._is_foreign(_values(scope, b"origin"), _values(scope, b"sec-fetch-site"), hosts):
            return ForbiddenError(
                "A page of another web site sent this request. If it may, name its origin in LIMNER_ALLOWED_ORIGINS."
            )
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a `Host` cannot have been led here by a stranger's name server: an address needs none."""
        name = host_name(host)
        return (
            name in self._hosts
            or is_address(name)
            or (self._short_names and name.isascii() and name.replace("-", "").replace("_", "").isalnum())
        )

    def _is_foreign(self, origins: list[str], sites: list[str], hosts: list[str]) -> bool:
        """Whether a page of another web site sent it. Browsers let no page set either header."""
        if "*" in self._origins or (origins and all(origin in self._origins for origin in origins)):
            return False
        if sites and all(site in _SAME_SITE for site in sites):
            return False
        if origins:
            return not all(origin.partition("://")[2] in hosts for origin in origins)
        return any(site in _OTHER_SITE for site in sites)


def host_name(host: str) -> str:
    """The name or address in a `Host`, without port and brackets, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def is_address(name: str) -> bool:
    """Whether it is an IP address as browsers write it."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _values(scope: Scope, wanted: bytes) -> list[str]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for name, value in headers if name == wanted]
