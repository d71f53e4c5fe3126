"""uvicorn's HTTP protocol, with limits on what a connection may send before it is answered, and on the time it takes.

uvicorn 0.54 limits bodies and writing, but not headers, requests that wait, or the time before the first request.
"""

import asyncio
import math
from typing import Any

import httptools
from pydantic_core import to_json
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from limner.domain.errors import InvalidRequestError, LimnerError, MethodNotAllowedError, UnavailableError
from limner.web.connections import FROM_PROXY, PEER, STATE, Connections, ReportsStalls

MAX_HEADERS = 100  # as Apache; browsers send about 20
MAX_WAITING = 8  # requests sent before the first is answered (pipelining); browsers and proxies send none
MAX_WAITING_BODY_BYTES = 65_536
MAX_DROPPED_BYTES = 1_000_000  # read after a refusal: closing the socket while a client sends would lose the answer


class _RefusedError(Exception):
    """Stops the parser: what follows in the received data is not read."""


class _Flow(FlowControl):
    """Does not resume reading while requests wait, although uvicorn resumes it for the first of them."""

    waits = False

    def resume_reading(self) -> None:
        if not self.waits:
            super().resume_reading()


class _WithoutChunks:
    """Sends a body of unknown length to a client of HTTP/1.0 as it is, until the connection closes.

    Such a client does not know the chunks in which uvicorn 0.54 sends it; nginx in front asks by HTTP/1.0 by default.
    """

    def __init__(self, app: Any, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application."""
        cycle = self._cycle

        async def plain(message: Any) -> None:
            if message["type"] == "http.response.start":
                if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                    cycle.chunked_encoding = False
                    cycle.expected_content_length = math.inf  # type: ignore[assignment]  # bytes until the end
            elif cycle.expected_content_length == math.inf and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await self._app(scope, receive, plain)


class HttpProtocol(ReportsStalls, HttpToolsProtocol):
    """HTTP/1.1 with limits. The sweep of `Connections` measures time, so that no request needs a timer of its own."""

    flow: _Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections: Connections = app_state[STATE]
        self._connection = None
        self._in_front: RequestResponseCycle | None = None
        self._in_message = False  # between the end of a header and the end of its body
        self._unparsed = 0  # bytes received since the parser last reported progress; at most one chunk too many
        self._stopped = False  # nothing more is read
        self._dropped = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """See asyncio."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._connection = self._connections.enter(transport, self.client[0] if self.client else None)
        if self._connection is None:
            self._stopped = True
            self._write_problem(UnavailableError("There are too many open connections. Try again later."))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._connection is not None:
            self._connections.leave(self._connection)
        # uvicorn informs only the newest request.
        for cycle in (self._in_front, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._stopped or self._connection is None:
            self._dropped += len(data)
            if self._dropped > MAX_DROPPED_BYTES:
                self.transport.abort()
            return
        if not self._in_message and not self._unparsed and (self.cycle is None or self.cycle.response_complete):
            self._connections.hurry(self._connection)
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._stopped:
                self._refuse(InvalidRequestError("The request is not valid HTTP."), 400, "not HTTP")
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._ignore_upgrade(data[upgrade.args[0] :])
        else:
            if self._unparsed > self._connections.max_header_bytes:
                self._refuse(*self._too_large_header())

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the request as if it had no `Upgrade` (RFC 9110, 7.8). Java's client offers HTTP/2 in this way."""
        lines = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                lines += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"".join([*lines, b"\r\n", rest]))

    def on_message_begin(self) -> None:
        """The first line of a request begins."""
        super().on_message_begin()
        self.scope[PEER] = self.client  # type: ignore[literal-required]
        self.scope[FROM_PROXY] = self._connection is not None and self._connection.client is None  # type: ignore[literal-required]

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field; trailer fields, which follow a body, are ignored."""
        if self._in_message:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The header is complete: start its request, or let it wait behind others."""
        limit = self._connections.max_header_bytes
        if len(self.headers) > MAX_HEADERS or (self._unparsed > limit and self._header_bytes() > limit):
            self._stop_with(*self._too_large_header())
        self._unparsed = 0
        waits = self.cycle is not None and not self.cycle.response_complete
        upgrade = self.parser.should_upgrade()
        takes_over = upgrade and self._should_upgrade()
        # A WebSocket takes over the connection, so it cannot wait behind other requests.
        if waits and (takes_over or len(self.pipeline) >= MAX_WAITING):
            self._stop("pipelining")
            raise _RefusedError
        if self.parser.get_method() == b"CONNECT":
            self._stop_with(MethodNotAllowedError("This server is not a proxy."), 405, "not HTTP")
        if upgrade and not takes_over:
            return  # the parser stops here, and `_ignore_upgrade` reads the request again without the field
        self._in_message = True
        assert self._connection is not None
        self._connections.work(self._connection)
        if waits:
            self.flow.waits = True
        super().on_headers_complete()
        if self._connections.parting and not takes_over:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unparsed = 0
        super().on_body(body)
        if self.pipeline and len(self.cycle.body) > MAX_WAITING_BODY_BYTES:
            self._drop_last()
            self._stop("pipelining")
            raise _RefusedError

    def on_message_complete(self) -> None:
        """The body and its trailer fields are complete."""
        self._unparsed = 0
        if not self._in_message:
            return
        self._in_message = False
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._rest()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._in_front = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _WithoutChunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """A request is answered: start the next one that waits."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self.flow.waits = bool(self.pipeline) or self._stopped
            self.flow.resume_reading()
            self._start_asgi_task(cycle, app)
            return
        self.flow.resume_reading()
        self._rest()

    def shutdown(self) -> None:
        """The server stops. A connection without a request may have one on its way, so `Connections` closes it."""
        if not self._connections.parting or (self.cycle is not None and not self.cycle.response_complete):
            super().shutdown()

    def _rest(self) -> None:
        assert self._connection is not None
        self._connections.rest(self._connection)
        if self._in_message or self._unparsed:
            # The rest of a body that is not needed is read for a short time, so that the client can read the answer.
            self._connections.hurry(self._connection)

    def _header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large_header(self) -> tuple[LimnerError, int, str]:
        limit = self._connections.max_header_bytes
        detail = f"The header is larger than {limit:,} bytes or has more than {MAX_HEADERS} fields."
        return InvalidRequestError(detail, limit=limit), 431, "header too large"

    def _stop_with(self, problem: LimnerError, status: int, why: str) -> None:
        self._refuse(problem, status, why)
        raise _RefusedError

    def _refuse(self, problem: LimnerError, status: int, why: str) -> None:
        """Answer with an error and close; if another answer is in progress, close after that one."""
        if self.cycle is None or self.cycle.response_complete:
            self._stopped = True
            self._connections.count(why)
            self._write_problem(problem, status)
        elif self._in_message and not self.pipeline:
            # The body of the first request is wrong, so its application need not continue.
            started, self.cycle.disconnected = self.cycle.response_started, True
            self.cycle.message_event.set()
            self._stopped = True
            self._connections.count(why)
            if started:
                self.transport.close()
            else:
                self._write_problem(problem, status)
        else:
            if self._in_message:
                self._drop_last()
            self._stop(why)

    def _drop_last(self) -> None:
        """Forget the newest waiting request. A client that pipelines must send it again (RFC 9112, 9.3.2)."""
        self.pipeline.popleft()
        last = self.pipeline[0][0] if self.pipeline else self._in_front
        assert last is not None
        self.cycle = last

    def _stop(self, why: str) -> None:
        """Read nothing more; close when the waiting requests are answered."""
        self._connections.count(why)
        self._stopped = self.flow.waits = True
        self.flow.pause_reading()
        self.cycle.keep_alive = False

    def _write_problem(self, problem: LimnerError, status: int | None = None) -> None:
        status = status or problem.status
        body = to_json(problem.problem() | {"status": status})
        lines = [STATUS_LINE[status]]
        lines += [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
        lines.append(b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(body))
        lines.append(b"connection: close\r\n\r\n")
        self.transport.write(b"".join([*lines, body]))
        if self._connection is None:
            self.transport.close()
        else:
            self._connections.linger(self._connection)
            self.transport.write_eof()
