"""The dashboard and the alert rules, on a real Prometheus that asks a real server; and `promtool`'s own tests."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from limner import telemetry
from tests.conftest import another
from tests.journeys.client import client
from tests.journeys.server import Server
from tests.services.process import find_program
from tests.services.prometheus import Prometheus

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/limner.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
WITHOUT_DATA = {
    "Share of requests with 5xx": "no request fails in a healthy service",
    "Streams closed as too slow": "a stream counts as slow only after half a minute",
    "Connections closed early": "none is, before a time limit of ten seconds",
}
PATIENCE_S = 40


def _queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"].replace("$__rate_interval", "10s") for target in panel["targets"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, astronaut_jpeg: bytes) -> Iterator[Prometheus]:
    """Prometheus beside a server that has been at work until every query of the dashboard had data, or too long."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    watching = Prometheus(tmp_path_factory.mktemp("prometheus"), {"limner-web": f"127.0.0.1:{server.port}"})
    try:
        watching.process.start()
        with client(server) as http, _listening(server):
            _work_until_seen(http, astronaut_jpeg, watching)
            yield watching
        server.check_log()
    finally:
        watching.process.stop()
        server.kill()


@contextlib.contextmanager
def _listening(server: Server) -> Iterator[None]:
    """A listener of each kind."""
    with (
        httpx.stream("GET", f"{server.url}/v1/events", headers={"Accept": "text/event-stream"}, timeout=60),
        connect(f"{server.socket_url}/v1/events"),
    ):
        yield


def _work_until_seen(http: httpx.Client, photo: bytes, watching: Prometheus) -> None:
    """Let the server work until every query of the dashboard has data, or until it takes too long."""
    wanted = [query for title, panel in PANELS.items() if title not in WITHOUT_DATA for query in _queries(panel)]
    deadline = time.monotonic() + PATIENCE_S
    number = 0
    while wanted and time.monotonic() < deadline:
        number += 1
        _work(http, photo, number)
        wanted = [query for query in wanted if not watching.query(query)]


def _work(http: httpx.Client, photo: bytes, number: int) -> None:
    """A new job, a cached one, one of a similar photo, one that fails, and a request for nothing."""
    wait = {"Prefer": "wait=20"}
    new = http.post("/v1/detect", files={"image": another(photo, number)}, headers=wait).json()
    http.get(f"/v1/jobs/{new['id']}").raise_for_status()
    http.post("/v1/detect", files={"image": another(photo, number)}, headers=wait).raise_for_status()
    similar = {"cache": "similar"}
    http.post("/v1/contours", files={"image": another(photo, -number)}, data=similar, headers=wait).raise_for_status()
    http.post("/v1/detect", files={"image": another(photo, number)[: len(photo) // 2]}, headers=wait)
    http.get("/v1/jobs/nothing")
    with contextlib.suppress(httpx.HTTPStatusError):
        http.get("/v1/nothing").raise_for_status()


@pytest.mark.parametrize("title", PANELS)
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, title: str) -> None:
    for query in _queries(PANELS[title]):
        assert prometheus.query(query) or title in WITHOUT_DATA, query


def test_the_panels_that_the_service_is_judged_by_have_the_right_numbers(prometheus: Prometheus) -> None:
    assert [series["value"][1] for series in prometheus.query("max(limner_database_up)")] == ["1"]
    open_streams = {series["metric"]["stream"]: series["value"][1] for series in prometheus.query("limner_sockets")}
    assert open_streams["sse"] == "1"
    assert open_streams["events"] == "1"
    assert float(prometheus.query("sum(limner_workers)")[0]["value"][1]) >= 1


def test_every_alert_is_evaluated_and_silent(prometheus: Prometheus) -> None:
    states = prometheus.rules()
    assert set(states) == {rule["alert"] for rule in ALERTS}
    assert {name: state for name, state in states.items() if state == "firing"} == {}
    assert set(states.values()) <= {"inactive", "pending"}


def test_alerts_fire_when_they_must() -> None:
    done = subprocess.run(
        [find_program("promtool"), "test", "rules", ROOT / "tests/deploy/alerts_test.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = yaml.safe_load((ROOT / "tests/deploy/alerts_test.yml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    firing = {check["alertname"] for check in checks if check.get("exp_alerts")}
    silent = {check["alertname"] for check in checks if not check.get("exp_alerts")}
    assert firing == silent == {rule["alert"] for rule in ALERTS}


def test_the_configuration_is_valid() -> None:
    config = ROOT / "deploy/prometheus/prometheus.yml"
    done = subprocess.run([find_program("promtool"), "check", "config", config], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_metrics_that_exist_are_used() -> None:
    known = {name for metric in telemetry.METRICS for name in (metric._name, f"{metric._name}_total")}
    known |= {f"{metric._name}_{part}" for metric in telemetry.METRICS for part in ("bucket", "sum", "count")}
    text = json.dumps(DASHBOARD["panels"]) + (ROOT / "deploy/prometheus/alerts.yml").read_text()
    used = {word for word in _words(text) if word.startswith(("limner_", "http_"))}
    assert used <= known


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split())
