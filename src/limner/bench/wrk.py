"""Generates load with `wrk`, a program in C that needs less CPU time than the servers it measures."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limner.domain.errors import SettingsError

INSTALL = "wrk, which generates the load, is not installed. Install it: apt-get install wrk (macOS: brew install wrk)"

# wrk calls `done` once at the end; latencies are microseconds, `errors.status` counts answers above 399.
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("limner-bench requests=%d us=%d p50=%d p99=%d status=%d connection=%d\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""
_LINE = re.compile(
    r"^limner-bench requests=(\d+) us=(\d+) p50=(\d+) p99=(\d+) status=(\d+) connection=(\d+)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Load:
    """The result of wrk: `requests` in `seconds`, latencies in ms, `errors` of connections and statuses above 399."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def require() -> None:
    """SettingsError that says how to install wrk, if it is missing."""
    if shutil.which("wrk") is None:
        raise SettingsError(INSTALL)


def run(
    url: str,
    *,
    connections: int,
    seconds: int,
    body: bytes | None = None,
    content_type: str = "",
    token: str | None = None,
) -> Load:
    """GET `url`, or POST `body` to it, repeatedly over all connections. SettingsError if wrk is not installed.

    `token` is an API key, if the service asks for one.
    """
    require()
    key = [] if token is None else ["-H", f"Authorization: Bearer {token}"]
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as folder:
        script = Path(folder) / "load.lua"
        script.write_text(_script(Path(folder) / "body", content_type) if body is not None else _DONE)
        if body is not None:
            (Path(folder) / "body").write_bytes(body)
        made = subprocess.run(  # noqa: S603  # nothing of it comes from outside
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", *key, "-s", str(script), url],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode != 0:
        raise SettingsError(f"wrk failed: {made.stdout}{made.stderr}")
    return parse(made.stdout)


def parse(output: str) -> Load:
    """Parse the line that the script's `done` writes. SettingsError if it is missing."""
    line = _LINE.search(output)
    if line is None:
        raise SettingsError(f"wrk gave no summary: {output}")
    requests, us, p50, p99, status, connection = map(int, line.groups())
    return Load(requests, us / 1e6, p50 / 1000, p99 / 1000, status + connection)


def _script(body: Path, content_type: str) -> str:
    return (
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "{content_type}"\n'
        f'local file = io.open("{body}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n{_DONE}'
    )
