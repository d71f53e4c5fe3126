"""A PostgreSQL server for tests."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from limner.adapters.sql.migrate import migrate
from limner.adapters.sql.opening import open_stores
from tests.services.process import ServerProcess, find_program, free_port


class Postgres:
    """PostgreSQL with its data in `folder`. `new_database` gives each test an empty database of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        max_connections: int = 200,
        durable: bool = False,
        network: str | None = None,
        **settings: str,
    ) -> None:
        """`network`, as in `10.0.0.0/24`, may connect too; `settings` are further ones of the server."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.data = folder / "data"
        self._with_tables: str | None = None
        user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = "postgres"
            pwd.getpwnam(user)
            self.data.mkdir()
            shutil.chown(self.data, user, user)
            for each in (folder, *folder.parents):  # pytest's folders are closed to other users
                if each.stat().st_uid == 0 and not each.stat().st_mode & 0o001:
                    each.chmod(each.stat().st_mode | 0o011)
        subprocess.run(
            [
                find_program("initdb"),
                "-D",
                self.data,
                "-U",
                "limner",
                "--auth=trust",
                "-E",
                "UTF8",
                "--no-sync",
                "--locale=C.UTF-8",
            ],
            check=True,
            capture_output=True,
            user=user,
            group=user,
            cwd="/",
        )
        if network is not None:
            with (self.data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {network} trust\n")
        options = {
            "listen_addresses": "127.0.0.1" if network is None else "*",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(max_connections),
            "fsync": "on" if durable else "off",
            "synchronous_commit": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            **settings,
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.process = ServerProcess(
            [find_program("postgres"), "-D", str(self.data), *arguments],
            self._is_ready,
            folder / "postgres.log",
            user=user,
            stop_signal=signal.SIGINT,  # "fast": it ends its clients' connections instead of waiting for them
        )

    def start(self) -> None:
        """Start, also after `stop` or `kill`."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self.process.start()

    def become(self, *, replica: bool) -> None:
        """Start again as a replica, which is only read, or as the primary server."""
        self.process.stop()
        mark = self.data / "standby.signal"
        mark.touch() if replica else mark.unlink()
        self.start()

    def url(self, database: str) -> str:
        """The URL of a database, as `LIMNER_DATABASE_URL` takes it."""
        return f"postgresql://limner@127.0.0.1:{self.port}/{database}"

    def new_service_database(self) -> str:
        """The URL of a new database with the tables of a service and nothing in them."""
        if self._with_tables is None:
            url = self.new_database()
            stores = open_stores(url, durable=False)
            try:
                migrate(stores.database)
            finally:
                stores.close()
            self._with_tables = url.rpartition("/")[2]
        return self.new_database(self._with_tables)

    def new_database(self, template: str = "template1") -> str:
        """Create a database, empty or with the tables of the one named `template`, and return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def execute(self, url: str, *statements: str) -> list[tuple[Any, ...]]:
        """Execute statements in a database, each in its own transaction, and return the rows of the last one."""
        with psycopg.connect(url, autocommit=True, options="-c lock_timeout=5s") as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _is_ready(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
