"""Who may call a route: its need, the caller's key, ticket or signature, and the key's rate and quota.

Every route says what it needs with `@needs`; `web/dispatch.py` asks `Admission` before it calls the route.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar, TypeVarTuple
from urllib.parse import parse_qs

from starlette.types import Scope as Connection

from limner.domain.errors import (
    BadSignatureError,
    MissingScopeError,
    QuotaError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from limner.domain.key import ANYONE, Caller, Scope
from limner.key_ports import Counters
from limner.web.connections import client_of
from limner.web.keyring import REMEMBERED_S, Keyring
from limner.web.links import PictureSeal, Seal

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])
Ts = TypeVarTuple("Ts")
Header = tuple[bytes, bytes]

MINUTE_S = 60
DAY_S = 86_400
TICKET_S = 60
FAILURES_A_MINUTE = 20

SIGNED_FOR = "limner.signed_for_s"
"""Key in a request's scope: for how many seconds its signed URL is still valid."""

SIGNED = Caller(None, frozenset({Scope.READ}))
"""Who holds a signed URL: it names one picture, which this caller may read, whoever owns it."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a route asks of its caller."""

    scope: Scope | None
    """None: any valid key."""
    open: bool = False
    """No key is needed."""
    signed: bool = False
    """A signed URL will do instead of a key."""
    ticket: bool = False
    """A ticket will do instead of a key."""
    quota: bool = False
    """It counts for the key's daily quota."""
    key_header: bytes = b""
    """A further header, in small letters, in which its clients send the key."""


OPEN = Need(None, open=True)
ANY_KEY = Need(None)


def needs(
    need: Scope | Need, *, signed: bool = False, ticket: bool = False, quota: bool = True, key_header: bytes = b""
) -> Callable[[F], F]:
    """Declare what a route's function needs: a scope, `ANY_KEY` or `OPEN`.

    What needs the scope `submit` counts for the daily quota, unless `quota` is False.
    """
    counts = quota and need is Scope.SUBMIT
    declared = (
        need
        if isinstance(need, Need)
        else Need(need, signed=signed, ticket=ticket, quota=counts, key_header=key_header)
    )

    def declare(function: F) -> F:
        function.needs = declared  # type: ignore[attr-defined]  # a function's own attribute
        return function

    return declare


def need_of(function: Callable[..., object]) -> Need:
    """What a route's function needs. TypeError for one that does not say it, so that no route is open by mistake."""
    need = getattr(function, "needs", None)
    if not isinstance(need, Need):
        raise TypeError(f"{function.__qualname__} does not say who may call it: add @needs(…)")
    return need


class Kept(Protocol):
    """What stays open after its caller was admitted."""

    scope: Scope
    """What the caller must be allowed meanwhile."""

    def open_keys(self) -> list[str]:
        """The ids of the keys with which something is open."""
        ...

    def refuse(self, key_id: str) -> None:
        """End what is open with a key."""
        ...


class Admission:
    """Without a keyring, no keys are asked for and everything is open. Use it on the event loop only."""

    def __init__(
        self,
        *,
        keyring: Keyring | None = None,
        seal: Seal | None = None,
        counters: Counters | None = None,
        lifetime_s: float = 3600,
        open_metrics: bool = False,
    ) -> None:
        self.keyring = keyring
        self._seal = seal
        self._counters = counters
        self._open_metrics = open_metrics
        self._watch: asyncio.Task[None] | None = None
        self.pictures = PictureSeal(seal, lifetime_s) if seal is not None else None

    @property
    def required(self) -> bool:
        """Whether callers need a key."""
        return self.keyring is not None

    async def start(self, *kept: Kept) -> None:
        """Begin to end the streams of keys that become invalid."""
        if self.keyring is not None:
            self._watch = asyncio.create_task(self._end_streams(kept, self.keyring))

    async def stop(self) -> None:
        """End that, and the keyring's threads."""
        if self.keyring is not None and self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self.keyring.close()

    async def _end_streams(self, kept: Sequence[Kept], keyring: Keyring) -> None:
        while True:
            await asyncio.sleep(REMEMBERED_S)
            for each in kept:
                await _end_refused(each, keyring)

    async def admit(self, connection: Connection, need: Need) -> tuple[Caller, list[Header]]:
        """The caller, and headers for the answer.

        UnauthorizedError, MissingScopeError, BadSignatureError, RateLimitedError, QuotaError, UnavailableError.
        """
        if self.keyring is None or need.open or (need.scope is Scope.METRICS and self._open_metrics):
            return ANYONE, []
        caller = await self._identify(connection, need, self.keyring)
        may = need.scope is None or caller.may(need.scope)
        headers = await self._meter(caller, submits=need.quota and may)  # refused requests count for the rate, too
        if not may:
            raise MissingScopeError(f"The key lacks the scope `{need.scope}`. It has: {_listed(caller)}.")
        return caller, headers

    async def _identify(self, connection: Connection, need: Need, keyring: Keyring) -> Caller:
        token = _token(connection["headers"], need.key_header)
        if token is not None:
            return await self._by_token(token, connection, keyring)
        query = parse_qs(connection["query_string"].decode("latin-1")) if need.signed or need.ticket else {}
        if need.signed and "signature" in query:
            connection[SIGNED_FOR] = self._check_signature(connection["path"], query)
            return SIGNED
        if need.ticket and "ticket" in query:
            return await self._by_ticket(query["ticket"][0], keyring)
        raise UnauthorizedError

    async def _by_token(self, token: str, connection: Connection, keyring: Keyring) -> Caller:
        client = client_of(connection)
        # A known key still works, so that one visitor's mistakes do not lock out others behind the same address.
        if client is None or keyring.is_known(token):
            caller = await keyring.by_token(token)
        else:
            caller = await self._by_unknown_token(token, client, keyring)
        if caller is None:
            raise UnauthorizedError("The key is not valid: it is wrong, revoked or expired.")
        return caller

    async def _by_unknown_token(self, token: str, client: str, keyring: Keyring) -> Caller | None:
        """The same for a token that may be a guess. RateLimitedError for a client that has guessed too often."""
        minute, passed = divmod(int(time.time()), MINUTE_S)
        name = f"wrong key {client} {minute}"
        if await self._ask(self._shared.counted, name) >= FAILURES_A_MINUTE:
            detail = "Too many wrong keys came from this address. Try again later."
            raise RateLimitedError(detail, retry_after_s=MINUTE_S - passed)
        caller = await keyring.by_token(token)
        if caller is None and not keyring.is_known(token):  # a revoked key is no guess
            await self._count(name, MINUTE_S)
        return caller

    def _check_signature(self, path: str, query: dict[str, list[str]]) -> int:
        assert self.pictures is not None
        left = self.pictures.seconds_left(path, query.get("expires", [""])[0], query["signature"][0])
        if left is None:
            raise BadSignatureError
        if left <= 0:
            raise BadSignatureError("This URL has expired. Get the job again: its artifacts have new URLs.")
        return int(left)

    # --- tickets ----------------------------------------------------------------------------------------------------

    def ticket(self, caller: Caller) -> tuple[str, datetime] | None:
        """A ticket with which this caller can open one event stream, and its end; None when no keys are required."""
        if self._seal is None or caller.key_id is None:
            return None
        ends = datetime.now(UTC) + timedelta(seconds=TICKET_S)
        text = f"{caller.key_id}.{int(ends.timestamp())}.{secrets.token_urlsafe(12)}"
        return f"{text}.{self._seal.sign('events', text)}", ends

    async def _by_ticket(self, ticket: str, keyring: Keyring) -> Caller:
        assert self._seal is not None
        text, _, signature = ticket.rpartition(".")
        if not self._seal.verify("events", text, signature):
            raise UnauthorizedError("The ticket is not valid. Get one with `POST /v1/tickets`.")
        key_id, ends, nonce = text.split(".")
        if int(ends) < time.time():
            raise UnauthorizedError("The ticket has expired. Get another with `POST /v1/tickets`.")
        if await self._count(f"ticket {nonce}", 2 * TICKET_S) > 1:
            raise UnauthorizedError("The ticket was used already. Get another with `POST /v1/tickets`.")
        caller = await keyring.by_id(key_id)
        if caller is None:
            raise UnauthorizedError("The key of this ticket is revoked or expired.")
        return caller

    # --- rate and quota ---------------------------------------------------------------------------------------------

    async def _meter(self, caller: Caller, *, submits: bool) -> list[Header]:
        """Count the request. The headers are those of the IETF draft `ratelimit-headers`."""
        policies, states = [], []
        for name, most, window_s, error in (
            ("minute", caller.rate_per_minute, MINUTE_S, RateLimitedError),
            ("day", caller.daily_quota if submits else None, DAY_S, QuotaError),
        ):
            if most is None:
                continue
            # Windows begin with the clock's minutes and days (UTC), so that the name tells which window it is.
            number, passed = divmod(int(time.time()), window_s)
            left_s = window_s - passed
            used = await self._count(f"{name} {caller.key_id} {number}", window_s)
            policies.append(f'"{name}";q={most};w={window_s}')
            states.append(f'"{name}";r={max(most - used, 0)};t={left_s}')
            if used > most:
                raise error(retry_after_s=left_s, rate_limit=(", ".join(policies), ", ".join(states)))
        return rate_headers(", ".join(policies), ", ".join(states)) if policies else []

    async def _count(self, name: str, window_s: int) -> int:
        return await self._ask(self._shared.count, name, window_s)

    @property
    def _shared(self) -> Counters:
        assert self._counters is not None
        return self._counters

    async def _ask(self, count: Callable[[*Ts], int], *args: *Ts) -> int:
        """Call a method of the counters."""
        assert self.keyring is not None
        return await self.keyring.call(count, *args) if self._shared.remote else count(*args)


async def _end_refused(kept: Kept, keyring: Keyring) -> None:
    """End what is open with keys that are not valid any more. The next round tries again what could not be checked."""
    for key_id in kept.open_keys():
        try:
            caller = await keyring.by_id(key_id)
        except UnavailableError as error:
            log.warning("keys of open streams cannot be checked", extra={"detail": error.detail})
            return
        except Exception:
            log.exception("keys of open streams cannot be checked")
            return
        if caller is None or not caller.may(kept.scope):
            kept.refuse(key_id)


def rate_headers(policy: str, state: str) -> list[Header]:
    """`RateLimit-Policy` and `RateLimit`."""
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())]


def _listed(caller: Caller) -> str:
    return ", ".join(sorted(caller.scopes)) or "none"


def _token(headers: Sequence[Header], further: bytes = b"") -> str | None:
    """The key of `X-API-Key`, or of `Authorization: Bearer …`, which may be for a proxy in front if both are sent.

    `further` is a header that is as good as `X-API-Key`.
    """
    found = None
    for name, value in headers:
        if name in (b"x-api-key", further):
            return value.strip().decode("latin-1")
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found = rest.strip().decode("latin-1")
    return found
