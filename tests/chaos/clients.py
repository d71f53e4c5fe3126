"""The load: clients that submit, repeat, wait, cancel, erase and listen. They note what they are told."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import skimage.data
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.chaos.ledger import FINAL, Ledger, Promise
from tests.conftest import another, as_jpeg
from tests.journeys.client import server_sent

REQUEST_S = 30.0
RETRY_S = 0.4
LOST_HTTP = (httpx.TransportError, httpx.StreamError)
LATER = (429, 503)


class Photos:
    """Photos of one face, most of them small. All differ; some only in a comment, so that their artifacts are alike."""

    def __init__(self, random_: random.Random) -> None:
        self._face = np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])
        self._alike = as_jpeg(self._face)
        self._large = [as_jpeg(np.kron(self._face, np.ones((side, side, 1), np.uint8))) for side in (8, 14)]
        self._random = random_
        self._number = 0
        self._lock = threading.Lock()

    def new(self) -> bytes:
        """A photo that nobody has sent."""
        with self._lock:
            self._number += 1
            number, alike, large = self._number, self._random.random() < 0.4, self._random.random() < 0.12
            noise = self._random.randbytes(24 * 24 * 3)
        if large:
            return another(self._large[number % len(self._large)], number)
        if alike:
            return another(self._alike, number)
        pixels: npt.NDArray[np.uint8] = self._face.copy()
        pixels[:24, :24] = np.frombuffer(noise, np.uint8).reshape(24, 24, 3)
        return another(as_jpeg(pixels), number)


class Clients:
    """All clients of one deployment. `start`, then `stop_sending`, and when nothing more happens `stop`."""

    def __init__(self, url: str, webhook_url: str, ledger: Ledger, seed: int) -> None:
        self.url = url
        self.ledger = ledger
        self.followers = [Follower(self, kind) for kind in ("sse", "socket", "sse", "socket")]
        self._webhook_url = webhook_url
        self._random = random.Random(seed)
        self._photos = Photos(self._random)
        self._sending = threading.Event()
        self.ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        kinds = (
            self._submit,
            self._submit,
            self._repeat,
            self._twins,
            self._wait,
            self._cancel,
            self._erase,
            self._look,
        )
        for number, kind in enumerate(kinds):
            self._begin(f"client-{number}-{kind.__name__}", self._loop, kind)
        for number, follower in enumerate(self.followers):
            self._begin(f"follower-{number}", follower.run)

    def _begin(self, name: str, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop_sending(self) -> None:
        """No new requests; those under way are repeated until they are answered. Listeners go on."""
        self._sending.set()
        for thread in self._threads:
            if thread.name.startswith("client"):
                thread.join(120)
                assert not thread.is_alive(), f"{thread.name} got no answer"

    def stop(self) -> None:
        """Stop the listeners."""
        self.ending.set()
        for thread in self._threads:
            thread.join(3)  # a stream that is silent ends with the service

    def _loop(self, act: Callable[[httpx.Client, random.Random], None]) -> None:
        mine = random.Random(self._random.random())
        with httpx.Client(base_url=self.url, timeout=REQUEST_S) as http:
            while not self._sending.is_set():
                try:
                    act(http, mine)
                except Exception as error:  # noqa: BLE001  # whatever it is belongs into the report
                    self.ledger.note(f"client {act.__name__}: {error!r}")
                self._sending.wait(mine.uniform(0.1, 0.9))

    # --- one request -------------------------------------------------------------------------------------------------

    def _ask(self, http: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response | None:
        """One try. None if it makes sense to try again; what must never be answered is noted."""
        try:
            answer = http.request(method, path, **more)
        except LOST_HTTP as error:
            self.ledger.count(type(error).__name__)
            return None
        self.ledger.count(str(answer.status_code))
        if answer.status_code in LATER:
            return None
        return answer

    def _patiently(self, http: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer, after as many tries as it takes."""
        deadline = time.monotonic() + 100
        while True:
            answer = self._ask(http, method, path, **more)
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path} was not answered for 100 s")
            time.sleep(RETRY_S)

    def _send(
        self,
        http: httpx.Client,
        kind: str,
        photo: bytes,
        *,
        webhook: bool = False,
        key: str | None = None,
        prefer: str | None = None,
        patient: bool = False,
    ) -> Promise | None:
        headers = {name: value for name, value in (("Idempotency-Key", key), ("Prefer", prefer)) if value}
        data = {"webhook_url": self._webhook_url} if webhook else {}
        ask = self._patiently if patient else self._ask
        answer = ask(http, "POST", "/v1/detect", files={"image": photo}, data=data, headers=headers)
        if answer is None:
            return None
        if answer.status_code not in (200, 202):
            self.ledger.note(f"{kind}: a photo was answered {answer.status_code}: {answer.text[:300]}")
            return None
        job = answer.json()
        if prefer and answer.status_code == 200 and job["status"] not in FINAL:
            self.ledger.note(f"{kind}: 200 with a job that is {job['status']}")
        return self.ledger.accepted(job, kind, webhook=webhook, key=key)

    # --- kinds of clients --------------------------------------------------------------------------------------------

    def _submit(self, http: httpx.Client, mine: random.Random) -> None:
        self._send(http, "submit", self._photos.new(), webhook=mine.random() < 0.3)

    def _repeat(self, http: httpx.Client, mine: random.Random) -> None:
        """One key until it is answered, by two at once, and once more afterwards."""
        key, photo = f"key-{mine.getrandbits(64):x}", self._photos.new()
        webhook = mine.random() < 0.3

        def send() -> None:
            try:
                self._send(http, "repeat", photo, key=key, webhook=webhook, patient=True)
            except TimeoutError as error:
                self.ledger.note(repr(error))

        other = threading.Thread(target=send)
        other.start()
        send()
        other.join()
        send()

    def _twins(self, http: httpx.Client, mine: random.Random) -> None:
        """The same photo at the same time."""
        photo = self._photos.new()
        senders = [threading.Thread(target=self._send, args=(http, "twin", photo)) for _ in range(mine.randint(2, 4))]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

    def _wait(self, http: httpx.Client, mine: random.Random) -> None:
        self._send(http, "wait", self._photos.new(), prefer=f"wait={mine.randint(1, 8)}")

    def _cancel(self, http: httpx.Client, mine: random.Random) -> None:
        promise = self._send(http, "cancel", self._photos.new(), webhook=mine.random() < 0.3)
        if promise is None:
            return
        time.sleep(mine.choice((0, 0, 0.02, 0.1)))
        answer = self._patiently(http, "POST", f"/v1/jobs/{promise.id}/cancel")
        if answer.status_code == 200:
            self.ledger.seen(answer.json())
        elif answer.status_code != 409:
            self.ledger.note(f"cancel: {promise.id} was answered {answer.status_code}: {answer.text[:300]}")

    def _erase(self, http: httpx.Client, mine: random.Random) -> None:
        """Erase a job soon, sometimes one of two with the same photo."""
        photo = self._photos.new()
        promise = self._send(http, "erase", photo, webhook=mine.random() < 0.3)
        if mine.random() < 0.4:
            self._send(http, "twin of an erased", photo)
        if promise is None:
            return
        time.sleep(mine.choice((0, 0.05, 0.3, 1.0)))
        promise.erasing = True
        answer = self._patiently(http, "DELETE", f"/v1/jobs/{promise.id}", headers={"Prefer": "return=representation"})
        if answer.status_code == 200:
            promise.receipt = answer.json()
        elif answer.status_code != 404:  # 404: an earlier try was done, and its answer was lost
            self.ledger.note(f"erase: {promise.id} was answered {answer.status_code}: {answer.text[:300]}")

    def _look(self, http: httpx.Client, mine: random.Random) -> None:
        """Look at a job that somebody was promised: it is there, and has not changed after its end."""
        for _ in range(5):
            promises = list(self.ledger.promises.values())
            if promises:
                promise = mine.choice(promises)
                answer = self._ask(http, "GET", f"/v1/jobs/{promise.id}")
                if answer is None:
                    continue
                if answer.status_code == 200:
                    self.ledger.seen(answer.json())
                elif answer.status_code != 404 or not promise.erasing:
                    self.ledger.note(f"look: {promise.id} was answered {answer.status_code}: {answer.text[:300]}")
            time.sleep(0.1)


class Follower:
    """Listens to all events from the first one on, and continues after the last one that it has seen."""

    def __init__(self, clients: Clients, kind: str) -> None:
        self.kind = kind
        self.seen: list[tuple[int, str, str]] = []
        self.connections = 0
        self._clients = clients

    @property
    def last(self) -> int:
        """The id of the last event."""
        return self.seen[-1][0] if self.seen else 0

    def run(self) -> None:
        """Listen until the clients end."""
        listen = self._server_sent if self.kind == "sse" else self._socket
        while not self._clients.ending.is_set():
            self.connections += 1
            with suppress(*LOST_HTTP, WebSocketException, OSError, TimeoutError):
                for event in listen():
                    if event["id"] <= self.last:
                        self._clients.ledger.note(f"{self.kind}: event {event['id']} came after {self.last}")
                    self.seen.append((event["id"], event["type"], event["job"]["id"]))
                    if self._clients.ending.is_set():
                        return
            self._clients.ending.wait(0.2)

    def _server_sent(self) -> Iterator[dict[str, Any]]:
        with httpx.stream(
            "GET", f"{self._clients.url}/v1/events", headers={"Last-Event-ID": str(self.last)}, timeout=20
        ) as answer:
            if answer.status_code == 200:
                yield from server_sent(answer.iter_lines())
            elif answer.status_code not in LATER:
                self._clients.ledger.note(f"sse: answered {answer.status_code}")

    def _socket(self) -> Iterator[dict[str, Any]]:
        address = f"{self._clients.url.replace('http', 'ws')}/v1/events?after={self.last}"
        with connect(address, open_timeout=10, proxy=None, max_queue=None, ping_timeout=10) as connection:
            while not self._clients.ending.is_set():
                try:
                    yield json.loads(connection.recv(timeout=2))
                except TimeoutError:
                    continue
