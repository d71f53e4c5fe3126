"""A Redis server for tests."""

import subprocess
from pathlib import Path

import redis

from tests.services.process import ServerProcess, find_program, free_port


class RedisServer:
    """Redis with its data in `folder`; `persistent` keeps an append-only file, as a real deployment does.

    With `tls`, it has a certificate for its address, signed by itself, and its URL begins with `rediss:`.
    """

    def __init__(self, folder: Path, *, persistent: bool = False, tls: bool = False, address: str = "") -> None:
        """It listens on `address` too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._used = -1
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        self.certificate = folder / "certificate.pem"
        self._tls = tls
        self.process = ServerProcess(
            [
                find_program("redis-server"),
                "--bind",
                "127.0.0.1",
                *([address, "--protected-mode", "no"] if address else []),
                *(self._with_tls(folder) if tls else ["--port", str(self.port)]),
                "--dir",
                str(folder),
                "--save",
                "",
                "--appendonly",
                "yes" if persistent else "no",
            ],
            self._is_ready,
            folder / "redis.log",
        )

    def _with_tls(self, folder: Path) -> list[str]:
        key = str(folder / "key.pem")
        made = ["-keyout", key, "-out", str(self.certificate)]
        asked = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
        subprocess.run(
            ["openssl", "req", "-x509", *asked, "-addext", "subjectAltName=IP:127.0.0.1", *made],
            check=True,
            capture_output=True,
        )
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", key]
        return ["--port", "0", "--tls-port", str(self.port), *files, "--tls-auth-clients", "no"]

    def new_database(self) -> str:
        """The URL of an empty database. There are sixteen, so a test must not outlive fifteen others."""
        self._used = (self._used + 1) % 16
        with redis.Redis(port=self.port, db=self._used) as client:
            client.flushdb()
        return f"redis://127.0.0.1:{self.port}/{self._used}"

    def queued(self, name: str) -> int:
        """The length of a list of the first database."""
        with redis.Redis(port=self.port) as client:
            return int(client.llen(name))  # type: ignore[arg-type]

    def _is_ready(self) -> bool:
        try:
            with redis.Redis(
                port=self.port,
                socket_timeout=2,
                socket_connect_timeout=2,
                ssl=self._tls,
                ssl_cert_reqs="none",
            ) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
