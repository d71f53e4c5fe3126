"""A Redis server for tests."""

from pathlib import Path

import redis

from tests.services.process import ServerProcess, find_program, free_port


class RedisServer:
    """Redis with its data in `folder`; `persistent` keeps an append-only file, as a real deployment does."""

    def __init__(self, folder: Path, *, persistent: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._used = -1
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = ServerProcess(
            [
                find_program("redis-server"),
                "--bind",
                "127.0.0.1",
                "--port",
                str(self.port),
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
            with redis.Redis(port=self.port, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
