"""The benchmarks' parsers: wrk's summary, /proc and WebSocket frames."""

import json
import os
import shutil
import time

import pytest

from limner.bench import wrk
from limner.bench.processes import bare_server, cpu_of_tree, parse_stat
from limner.bench.socket_clients import parse_frames
from limner.domain.errors import SettingsError


def test_wrk_summary_is_read_in_its_units() -> None:
    load = wrk.parse("Running 2s test\nlimner-bench requests=1000 us=2000000 p50=1500 p99=9000 status=3 connection=2\n")
    assert load == wrk.Load(requests=1000, seconds=2.0, p50_ms=1.5, p99_ms=9.0, errors=5)
    assert load.rate == 500


def test_wrk_without_a_summary_is_an_error() -> None:
    with pytest.raises(SettingsError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_posts_the_body_and_counts_errors() -> None:
    with bare_server() as bare:
        load = wrk.run(bare.url("/100"), connections=2, seconds=1, body=b"x" * 1000, content_type="text/plain")
        assert load.requests > 0
        assert load.errors == 0
        failing = wrk.run(bare.url("/no-number"), connections=2, seconds=1)
        assert failing.errors == failing.requests > 0


def test_without_wrk_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingsError, match="apt-get install wrk"):
        wrk.require()


def test_stat_of_a_process_with_brackets_and_spaces_in_its_name() -> None:
    fields = "S 7 42 42 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 99"
    assert parse_stat(f"42 (a) b (c)) {fields}") == (7, 11 + 22 + 33 + 44)


def test_cpu_of_this_process_is_what_the_clock_says() -> None:
    before, begun = cpu_of_tree(os.getpid()), time.process_time()
    while time.process_time() - begun < 0.2:
        pass
    assert cpu_of_tree(os.getpid()) - before == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("cut", range(12))
def test_frames_are_parsed_in_any_pieces(cut: int) -> None:
    text = json.dumps({"padding": "x" * 200}).encode()
    stream = b"\x89\x02hi" + b"\x81\x7e" + len(text).to_bytes(2, "big") + text + b"\x81\x01a"
    first, rest = parse_frames(stream[:cut])
    second, left = parse_frames(rest + stream[cut:])
    assert [*first, *second] == [(0x9, b"hi"), (0x1, text), (0x1, b"a")]
    assert left == b""
