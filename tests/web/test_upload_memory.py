"""The memory of uploads: bounded for all, and fair among clients."""

from contextlib import ExitStack

import pytest

from limner.domain.errors import QueueFullError
from limner.web.connections import client_of
from limner.web.upload_memory import UploadMemory

MB = 1_000_000
PART = 65_536


def fill(memory: UploadMemory, held: ExitStack, address: str, uploads: int) -> int:
    """Begin that many uploads of 20 MB, in parts and in turn, until no part is accepted. Returns the bytes taken."""
    shares = [held.enter_context(memory.share(address)) for _ in range(uploads)]
    while shares:
        for share in list(shares):
            try:
                share.take(PART)
            except QueueFullError:
                shares.remove(share)
            else:
                if share.taken >= 20 * MB:
                    shares.remove(share)
    return memory.used


def test_one_client_leaves_room_for_others() -> None:
    memory = UploadMemory(512 * MB)
    with ExitStack() as held:
        first = fill(memory, held, "203.0.113.7", 800)
        assert 0.49 < first / memory.limit <= 0.5
        second = fill(memory, held, "203.0.113.8", 800) - first
        assert 0.24 < second / memory.limit <= 0.25
        with memory.share("198.51.100.1") as share:
            share.take(20 * MB)
        with memory.share("203.0.113.7") as share, pytest.raises(QueueFullError, match="from your address"):
            share.take(PART)
    assert (memory.used, memory.uploads, memory.held) == (0, {}, {})
    with memory.share("203.0.113.7") as share:
        share.take(20 * MB)


def test_a_single_upload_may_take_all_that_is_free() -> None:
    memory = UploadMemory(30 * MB)
    with memory.share("203.0.113.7") as share:
        share.take(29 * MB)
        with memory.share("198.51.100.1") as other, pytest.raises(QueueFullError, match=r"at once\. Try"):
            other.take(2 * MB)
        share.give_back()
        share.take(30 * MB)
    assert memory.used == 0


PROXY = ("10.0.0.1", 41000)


@pytest.mark.parametrize(
    ("clients", "shared"),
    [
        (("2001:db8:1:2::3", "2001:db8:1:2::4"), True),
        (("2001:db8:1:2::3", "2001:db8:1:3::3"), False),
        (("::ffff:203.0.113.7", "203.0.113.7"), True),
        (("unknown", "_hidden"), True),
        (("10.0.0.7", "10.0.0.7"), True),  # in the proxy's own network
        (("10.0.0.1", "10.0.0.1"), True),  # as the proxy says of who connects to it from its own machine
        (("10.0.0.7", "10.0.0.8"), False),
        ((None, None), False),
    ],
)
def test_who_shares(clients: tuple[str | None, str | None], shared: bool) -> None:
    """`clients` are named by a proxy; None: it names nobody."""
    scopes = [
        {"client": (each, 0) if each is not None else PROXY, "limner.peer": PROXY, "limner.from_proxy": True}
        for each in clients
    ]
    memory = UploadMemory(100)
    with memory.share(client_of(scopes[0])) as first, memory.share(client_of(scopes[1])) as second:
        first.take(40)
        if shared:
            with pytest.raises(QueueFullError):
                second.take(40)
        else:
            second.take(30)


def test_a_client_without_a_proxy() -> None:
    client = ("10.0.0.7", 41000)
    assert client_of({"client": client, "limner.peer": client, "limner.from_proxy": False}) == "10.0.0.7"
    assert client_of({"client": None}) is None
