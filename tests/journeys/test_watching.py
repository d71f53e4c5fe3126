"""What operators of the service see: health, metrics and the log."""

import re
import signal
import time
from datetime import datetime

import httpx
import pytest

from limner.telemetry import METRICS
from tests.conftest import another
from tests.journeys.client import finished, get, listening, metric, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server


def test_health(shared_server: Server) -> None:
    for path in ("/healthz", "/readyz"):
        answer = get(shared_server, path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_page_is_served_with_a_strict_policy(shared_server: Server) -> None:
    page = get(shared_server, "/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.embedded
def test_metrics_by_route_template_and_operation(server: Server, astronaut_jpeg: bytes) -> None:
    with listening(server), listening(server, "/faces"):
        assert metric(server, "limner_sockets", stream="events") == 1
        assert metric(server, "limner_sockets", stream="faces") == 1
        for number in (1, 1, 2):
            submit(server, another(astronaut_jpeg, number), wait=True)
    for path in ("/v1/jobs/one", "/v1/jobs/two", "/v1/jobs/three", "/nowhere/at/all", "/wp-login.php"):
        get(server, path)
    httpx.request("PROPFIND", f"{server.url}/v1/jobs")
    text = get(server, "/metrics").text
    assert get(server, "/metrics").headers["content-type"].startswith("text/plain; version=")
    for each in METRICS:
        assert f"# HELP {each._name}" in text
    for never in ("one", "wp-login", "nowhere", "PROPFIND", "127.0.0.1"):
        assert never not in text
    expected = {
        ("http_requests_total", "method=POST handler=/v1/detect status=200"): 3,
        ("http_requests_total", "method=GET handler=/v1/jobs/{job_id} status=404"): 3,
        ("http_requests_total", "handler=unmatched status=404"): 2,
        ("http_requests_total", "method=other"): 1,
        ("http_request_duration_seconds_count", "handler=/v1/detect"): 3,
        ("limner_jobs_submitted_total", "operation=detect how=new"): 2,
        ("limner_jobs_submitted_total", "operation=detect how=exact"): 1,
        ("limner_jobs_finished_total", "operation=detect status=succeeded"): 2,
        ("limner_job_seconds_count", "operation=detect"): 2,
        ("limner_stage_seconds_count", "operation=detect stage=decode"): 2,
        ("limner_stage_seconds_count", "operation=detect stage=detect"): 2,
        ("limner_stage_seconds_count", "operation=detect stage=encode"): 2,
        ("limner_stage_seconds_count", "operation=detect stage=store"): 2,
        ("limner_result_sums_total", "operation=detect field=faces_count"): 2,
        ("limner_events_sent_total", "stream=events"): 7,
        ("limner_events_sent_total", "stream=faces"): 3,
        ("limner_queue_depth", "lane=cpu"): 0,
        ("limner_queue_age_seconds", "lane=cpu"): 0,
        ("limner_jobs_running", "lane=cpu"): 0,
        ("limner_cache_results", ""): 2,
        ("limner_database_up", ""): 1,
    }
    for (name, labels), value in expected.items():
        wanted = dict(label.split("=") for label in labels.split())
        assert metric(server, name, **wanted) == value, (name, labels)
    while metric(server, "limner_sockets"):
        time.sleep(0.05)


def until_logged(server: Server, text: str) -> None:
    """Wait for a worker's line: it may come after the answer that it is about."""
    deadline = time.monotonic() + 20
    while text not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)


@pytest.mark.embedded
def test_a_request_and_its_job_can_be_followed_through_the_log(server: Server, astronaut_jpeg: bytes) -> None:
    answer = httpx.post(
        f"{server.url}/v1/detect", files={"image": astronaut_jpeg}, headers={"X-Request-ID": "follow-me.1"}
    )
    assert answer.headers["x-request-id"] == "follow-me.1"
    job_id = answer.json()["id"]
    finished(server, job_id)
    until_logged(server, "job succeeded")
    lines = server.log_lines()
    request = next(line for line in lines if line.get("request") == "follow-me.1" and line["message"] == "request")
    assert (request["method"], request["route"], request["status"]) == ("POST", "/v1/detect", 202)
    assert request["job"] == job_id
    assert request["ms"] >= 0
    job = next(line for line in lines if line["message"] == "job succeeded")
    assert (job["job"], job["operation"], job["attempt"], job["faces_count"]) == (job_id, "detect", 1, 1)
    for line in lines:
        assert {"time", "level", "logger", "message"} <= set(line)
        datetime.strptime(line["time"], "%Y-%m-%dT%H:%M:%S%z")
    forged = get(server, "/healthz", **{"X-Request-ID": 'a" forged="1'})
    assert re.fullmatch(r"[0-9a-f]{32}", forged.headers["x-request-id"])
    assert not [line for line in server.log_lines() if line.get("route") == "/healthz"]  # these are not used


def test_a_load_test_is_quiet(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LOAD_TEST_MODE="true", LIMNER_LOG_LEVEL="info")
    submit(server, astronaut_jpeg, wait=True)
    assert not [line for line in server.log_lines() if line["message"] == "request"]
    assert metric(server, "http_requests_total", handler="/v1/detect") == 1


@pytest.mark.embedded
def test_a_terminal_gets_lines_for_people(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_LOG_FORMAT="rich")
    job = submit(server, astronaut_jpeg, wait=True)
    until_logged(server, "job succeeded")
    text = server.log.read_text()
    assert job["id"] in text.replace("\n", "").replace(" ", "")
    assert server.log_lines() == []


@pytest.mark.embedded
def test_the_level_is_honoured(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_LOG_LEVEL="warning")
    submit(server, astronaut_jpeg, wait=True)
    asked_too_early = [line for line in server.log_lines() if line.get("problem") == "unavailable"]
    assert len(server.log.read_text().splitlines()) == len(asked_too_early)


@pytest.mark.embedded
def test_it_says_where_it_listens_and_when_it_stops(server: Server) -> None:
    messages = [line["message"] for line in server.log_lines()]
    assert any(f"http://127.0.0.1:{server.port}" in message for message in messages)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    server.process = None
    assert not any("color_message" in line for line in server.log_lines()), "uvicorn's second text, for terminals"
    stopping = next(line for line in server.log_lines() if line["message"] == "stopping")
    assert stopping["signal"] == "SIGTERM"
    everything = server.log.read_text().splitlines()
    assert len(server.log_lines()) == len(everything), everything  # JSON lines and nothing else
