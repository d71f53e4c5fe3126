"""A web server on 127.0.0.1 that has photos, for services that fetch them."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PhotoServer(ThreadingHTTPServer):
    """Serves `pages`, by path; `asked` counts the requests. A path in `held` is answered when `go_on` is set."""

    daemon_threads = True

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.pages = dict(pages)
        self.asked: Counter[str] = Counter()
        self.held: set[str] = set()
        self.go_on = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: clients that disconnect are expected."""


class _Page(BaseHTTPRequestHandler):
    server: PhotoServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[path] += 1
        if path in self.server.held:
            self.server.go_on.wait(60)
        body = self.server.pages.get(path)
        status = {"/error": 500, "/gone": 410}.get(path, 404 if body is None else 200)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body or b"")


@contextlib.contextmanager
def serving(pages: Mapping[str, bytes]) -> Iterator[PhotoServer]:
    """Such a server, running."""
    with PhotoServer(pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            server.shutdown()
            thread.join()
