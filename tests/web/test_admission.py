"""Signed URLs, tickets and limits as time passes, and what a route must say about who may call it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from limner.adapters.rate_counters import LocalCounters
from limner.domain.errors import (
    BadSignatureError,
    MissingScopeError,
    QuotaError,
    RateLimitedError,
    UnauthorizedError,
)
from limner.domain.key import Caller, Key, Scope, hash_of, joined, new_token, owned
from limner.web import keyring as keyring_module
from limner.web.admission import ANY_KEY, FAILURES_A_MINUTE, OPEN, Admission, Need, need_of, needs
from limner.web.keyring import ADMIN, Keyring
from limner.web.links import Links, PictureSeal, Seal

SECRET = "s" * 32
PATH = "/v1/jobs/a/artifacts/marked.jpg"
READ = Need(Scope.READ, signed=True, ticket=True)


class Keys:
    """`key_ports.KeyReader` and what is needed of `ports.JobStore`: keys in a list."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)
        self.asked = 0

    def by_hash(self, sha256: str) -> Key | None:
        self.asked += 1
        return next((key for key in self.keys if key.hash == sha256), None)

    def by_id(self, key_id: str) -> Key | None:
        self.asked += 1
        return next((key for key in self.keys if key.id == key_id), None)

    def all(self) -> list[Key]:
        return self.keys

    def transact(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def change_key(self, key_id: str, **values: Any) -> bool:
        self.keys = [replace(key, **values) if key.id == key_id else key for key in self.keys]
        return True


def key_of(token: str, *scopes: Scope, **changes: Any) -> Key:
    key = Key("id", "name", token[:10], hash_of(token), joined(scopes or (Scope.READ,)), datetime.now(UTC))
    return replace(key, **changes)


def admission_of(keys: Keys, **options: Any) -> Admission:
    chosen = {"seal": Seal([SECRET]), "counters": LocalCounters(), "lifetime_s": 3600.0} | options
    return Admission(keyring=Keyring(keys, keys, None), **chosen)  # type: ignore[arg-type]  # the part of a store


def asking(path: str = PATH, query: str = "", **headers: str) -> dict[str, Any]:
    """The scope of a request."""
    return {
        "type": "http",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1),
    }


class Clock:
    """Stands for the clock that links and tickets go by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_700_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("lifetime_s", [60.0, 3600.0, 604_800.0])
def test_a_url_is_valid_for_its_lifetime_and_at_most_a_quarter_more(clock: Clock, lifetime_s: float) -> None:
    seal = PictureSeal(Seal([SECRET]), lifetime_s)
    made = set()
    for passed in range(0, int(lifetime_s), max(int(lifetime_s) // 97, 1)):
        clock.now = 1_700_000_000.0 + passed
        url = Links("http://x", seal).picture(PATH)
        made.add(url)
        query = parse_qs(urlsplit(url).query)
        left = seal.seconds_left(PATH, query["expires"][0], query["signature"][0])
        assert left is not None
        assert lifetime_s <= left <= lifetime_s * 1.25 + 1
    assert len(made) in (4, 5), "it stays the same for a while, so that browsers can keep the picture"


def test_an_expired_url_is_refused(clock: Clock) -> None:
    admission = admission_of(Keys())
    assert admission.pictures is not None
    query = admission.pictures.query(PATH).lstrip("?")

    async def story() -> None:
        caller, headers = await admission.admit(asking(query=query), READ)
        assert (caller.only, caller.may(Scope.READ), caller.may(Scope.ERASE), headers) == (None, True, False, [])
        clock.now += 3600 * 1.25 + 1
        with pytest.raises(BadSignatureError, match="expired"):
            await admission.admit(asking(query=query), READ)
        with pytest.raises(UnauthorizedError):
            await admission.admit(asking(query=query), Need(Scope.READ))

    asyncio.run(story())


def test_an_expired_ticket_is_refused_and_a_used_one(clock: Clock) -> None:
    token = new_token()
    admission = admission_of(Keys(key_of(token)))

    async def story() -> None:
        caller, _ = await admission.admit(asking(authorization=f"Bearer {token}"), ANY_KEY)
        first, second = (admission.ticket(caller) for _ in range(2))
        assert first is not None
        assert second is not None
        clock.now = first[1].timestamp() - 1
        assert (await admission.admit(asking(query=f"ticket={first[0]}"), READ))[0] == caller
        with pytest.raises(UnauthorizedError, match="used already"):
            await admission.admit(asking(query=f"ticket={first[0]}"), READ)
        clock.now = second[1].timestamp() + 1
        with pytest.raises(UnauthorizedError, match="expired"):
            await admission.admit(asking(query=f"ticket={second[0]}"), READ)

    asyncio.run(story())


def test_windows_begin_with_the_clocks_minute_and_day(clock: Clock) -> None:
    token = new_token()
    admission = admission_of(Keys(key_of(token, Scope.SUBMIT, rate_per_minute=2, daily_quota=3)))
    clock.now = 86_400.0 * 20_000 - 61  # 61 s before midnight

    async def submit() -> dict[bytes, bytes]:
        return dict((await admission.admit(asking(authorization=f"Bearer {token}"), Need(Scope.SUBMIT, quota=True)))[1])

    async def story() -> None:
        assert (await submit())[b"ratelimit"] == b'"minute";r=1;t=1, "day";r=2;t=61'
        assert (await submit())[b"ratelimit"] == b'"minute";r=0;t=1, "day";r=1;t=61'
        with pytest.raises(RateLimitedError) as limited:
            await submit()
        assert (limited.value.retry_after_s, type(limited.value)) == (1, RateLimitedError)
        clock.now += 1
        assert (await submit())[b"ratelimit"] == b'"minute";r=1;t=60, "day";r=0;t=60', "a refusal costs no submission"
        with pytest.raises(QuotaError) as used:
            await submit()
        assert used.value.retry_after_s == 60
        clock.now += 60
        assert (await submit())[b"ratelimit-policy"] == b'"minute";q=2;w=60, "day";q=3;w=86400'

    asyncio.run(story())


def test_what_lacks_the_scope_counts_for_the_rate_and_not_for_the_quota(clock: Clock) -> None:
    token = new_token()
    keys = Keys(key_of(token, Scope.READ, rate_per_minute=2, daily_quota=1))
    admission = admission_of(keys)

    async def story() -> None:
        asked = asking(authorization=f"Bearer {token}")
        for _ in range(2):
            with pytest.raises(MissingScopeError):
                await admission.admit(asked, Need(Scope.SUBMIT, quota=True))
        with pytest.raises(RateLimitedError):
            await admission.admit(asked, Need(Scope.SUBMIT, quota=True))
        clock.now += 60
        keys.keys = [replace(keys.keys[0], scopes="submit")]
        await admission.keyring.call(admission.keyring._known.clear)  # type: ignore[union-attr]  # it has one
        headers = dict((await admission.admit(asked, Need(Scope.SUBMIT, quota=True)))[1])
        assert b'"day";r=0;' in headers[b"ratelimit"]

    asyncio.run(story())


def test_a_revoked_key_is_no_guess_and_blocks_nobody(clock: Clock) -> None:
    revoked, good = new_token(), new_token()
    keys = Keys(key_of(revoked, revoked_at=datetime.now(UTC)), key_of(good, id="other"))
    admission = admission_of(keys)

    async def story() -> None:
        for _ in range(FAILURES_A_MINUTE + 5):
            with pytest.raises(UnauthorizedError):
                await admission.admit(asking(authorization=f"Bearer {revoked}"), ANY_KEY)
        assert (await admission.admit(asking(authorization=f"Bearer {good}"), ANY_KEY))[0].key_id == "other"
        for _ in range(FAILURES_A_MINUTE):
            with pytest.raises(UnauthorizedError):
                await admission.admit(asking(authorization=f"Bearer {new_token()}"), ANY_KEY)
        with pytest.raises(RateLimitedError) as blocked:
            await admission.admit(asking(authorization=f"Bearer {new_token()}"), ANY_KEY)
        assert blocked.value.retry_after_s == 60 - int(clock.now) % 60
        assert (await admission.admit(asking(authorization=f"Bearer {good}"), ANY_KEY))[0].key_id == "other"
        clock.now += blocked.value.retry_after_s
        with pytest.raises(UnauthorizedError):
            await admission.admit(asking(authorization=f"Bearer {new_token()}"), ANY_KEY)

    asyncio.run(story())


def test_a_found_key_is_remembered_for_a_few_seconds_and_an_unknown_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(keyring_module.time, "monotonic", lambda: now[0])
    token = new_token()
    keys = Keys(key_of(token))
    ring = Keyring(keys, keys, None)  # type: ignore[arg-type]  # the part of a store that it uses

    async def story() -> None:
        for _ in range(3):
            assert await ring.by_token(token) is not None
        assert keys.asked == 1
        keys.keys = [replace(keys.keys[0], revoked_at=datetime.now(UTC))]
        assert await ring.by_token(token) is not None
        now[0] += keyring_module.REMEMBERED_S
        for _ in range(3):
            assert await ring.by_token(token) is None
        assert keys.asked == 2
        for _ in range(2):
            assert await ring.by_token(new_token()) is None
        assert keys.asked == 4
        for _ in range(2 * keyring_module.REMEMBERED_KEYS):
            other = new_token()
            keys.keys = [key_of(other)]
            assert await ring.by_token(other) is not None
        assert len(ring._known) == keyring_module.REMEMBERED_KEYS

    asyncio.run(story())
    ring.close()


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison of a key, a signature or a ticket goes through `hmac.compare_digest`."""
    import hmac

    compared: list[tuple[Any, Any]] = []

    def compare(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return real(one, other)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    token, admin = new_token(), "a" * 40
    keys = Keys(key_of(token))
    ring = Keyring(keys, keys, admin)  # type: ignore[arg-type]  # the part of a store that it uses
    seal = Seal([SECRET, "t" * 32])
    assert asyncio.run(ring.by_token(admin)) == ADMIN
    assert asyncio.run(ring.by_token(token)) is not None
    assert not seal.verify("events", "text", "wrong")
    assert len(compared) == 1 + 2 + 2
    ring.close()


def test_a_signature_is_of_one_purpose_and_one_secret() -> None:
    old, new, both = Seal(["o" * 32]), Seal(["n" * 32]), Seal(["n" * 32, "o" * 32])
    signature = old.sign("picture", "text")
    assert old.verify("picture", "text", signature)
    assert both.verify("picture", "text", signature)
    assert not new.verify("picture", "text", signature)
    assert not old.verify("events", "text", signature)
    assert not old.verify("picture", "text2", signature)
    assert both.sign("picture", "text") == new.sign("picture", "text")


def test_a_route_must_say_what_it_needs() -> None:
    async def silent() -> None: ...

    @needs(Scope.READ, signed=True)
    async def reading() -> None: ...

    with pytest.raises(TypeError, match=r"silent does not say who may call it"):
        need_of(silent)
    assert need_of(reading) == Need(Scope.READ, signed=True)


def test_without_a_keyring_everyone_may_do_everything() -> None:
    async def story() -> None:
        for need in (OPEN, ANY_KEY, Need(Scope.ADMIN)):
            caller, headers = await Admission().admit(asking(), need)
            assert (caller.key_id, caller.only, caller.may(Scope.ADMIN), headers) == (None, None, True, [])

    asyncio.run(story())


@pytest.mark.parametrize(
    ("caller", "sees"),
    [
        (Caller("a", frozenset({Scope.READ})), {"a"}),
        (Caller("a", frozenset({Scope.ADMIN})), {"a", "b", None}),
        (Caller(None, frozenset({Scope.READ})), {"a", "b", None}),
    ],
)
def test_what_exists_for_a_caller(caller: Caller, sees: set[str | None]) -> None:
    assert {owner for owner in ("a", "b", None) if caller.sees(owner)} == sees


def test_names_of_owners_do_not_meet() -> None:
    assert owned("name", None) == "name"
    found = {owned(name, owner) for name in ("x", "y") for owner in ("a", "b")}
    assert len(found) == 4
    assert all(len(each) == 64 for each in found)
