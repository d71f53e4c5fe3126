"""nginx with the configuration of `deploy/nginx.conf`, for tests."""

import os
import socket
import string
from pathlib import Path

from tests.services.process import ServerProcess, find_program, free_port

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy/nginx.conf"


class Nginx:
    """nginx in `folder` before a service at `upstream`, with the service's folder of blobs."""

    def __init__(
        self,
        folder: Path,
        upstream: str,
        blobs: Path,
        *,
        max_body: str = "60m",
        resolver: str = "127.0.0.1",
        tls: tuple[Path, Path] | None = None,
        keeps_images: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        values = {
            "NGINX_PORT": f"127.0.0.1:{self.port}",
            "NGINX_UPSTREAM": upstream,
            "NGINX_RESOLVER": resolver,
            "NGINX_MAX_BODY": max_body,
            "NGINX_BLOBS": str(blobs),
            "NGINX_TMP": str(folder),
        }
        text = TEMPLATE.read_text()
        if keeps_images:
            text = text.replace("#images ", "")
        if tls is not None:
            text = text.replace("listen ${NGINX_PORT} backlog=4096;\n        # With", "# With").replace("#tls ", "")
            text = text.replace("/etc/nginx/tls/fullchain.pem", str(tls[0]))
            text = text.replace("/etc/nginx/tls/privkey.pem", str(tls[1]))
        self.log = folder / "nginx.log"
        config = folder / "nginx.conf"
        config.write_text(string.Template(text).safe_substitute(values).replace("/dev/stdout", str(self.log)))
        # Started by root, its workers would be of another user, who may not read the blobs.
        user = "user root;" if os.geteuid() == 0 else ""
        command = [find_program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(config)]
        self.process = ServerProcess([*command, "-g", f"daemon off; {user}"], self._is_ready, folder / "error.log")

    def _is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True
