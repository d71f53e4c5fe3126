"""Which settings work together: each row of the table in docs/deploy.md, and nothing else."""

import re
from itertools import product
from pathlib import Path

import pytest

from limner.domain.errors import SettingsError
from limner.settings import Settings
from limner.together import check_together

DEPLOY = Path(__file__).parents[2] / "docs/deploy.md"
ROW = re.compile(r"^\| (1|several) \| (`processes:`|broker) \| (\S+) \| (\S+) \| (works|refused)", re.MULTILINE)

PROCESSES = {"1": [1], "several": [2, 4]}
ENGINES = {"`processes:`": ["processes:"], "broker": ["redis://broker:6379/0", "rediss://broker/0", "amqp://broker//"]}
BUSES = {"`local:`": ["local:"], "`redis:`": ["redis://bus:6379/1"]}
DATABASES = {
    "`sqlite:`": ["sqlite:////data/limner.db"],
    "`memory:`": ["memory:"],
    "`postgresql:`": ["postgresql://limner@db/limner", "postgresql+psycopg://limner@db/limner"],
}


def _together(values: dict[str, list[str]]) -> list[str]:
    return [each for some in values.values() for each in some]


def every(values: dict[str, list[str]], said: str) -> list[str]:
    return values[said] if said != "any" else _together(values)


def told() -> dict[tuple[int, str, str, str], str]:
    """What the table says of each combination."""
    found: dict[tuple[int, str, str, str], str] = {}
    for processes, engine, bus, database, verdict in ROW.findall(DEPLOY.read_text()):
        for each in product(PROCESSES[processes], ENGINES[engine], every(BUSES, bus), every(DATABASES, database)):
            assert each not in found, f"{each} is in two rows"
            found[each] = verdict
    return found


ALL = list(product([1, 2, 4], _together(ENGINES), _together(BUSES), _together(DATABASES)))


def test_the_table_is_complete() -> None:
    assert set(told()) == set(ALL)


@pytest.mark.parametrize(("processes", "engine", "bus", "database"), ALL)
def test_a_row_of_the_table(processes: int, engine: str, bus: str, database: str) -> None:
    settings = Settings(
        web_processes=processes, engine_url=engine, bus_url=bus, database_url=database, blobs_url="/data/blobs"
    )
    if told()[processes, engine, bus, database] == "works":
        check_together(settings)
    else:
        with pytest.raises(SettingsError, match=r"LIMNER_(WEB_PROCESSES|ENGINE_URL) .* needs .*: .+"):
            check_together(settings)


@pytest.mark.parametrize("variable", ["engine_url", "bus_url"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://:geheim@host:99999/0", "must be like redis://"),
        ("redis://:gehe#im@host:6379/0", "%23"),
        ("redis://:12/geheim@host:6379/0", "%2F"),
        ("rediss://host/geheim", "the number of a database"),
    ],
)
def test_a_url_that_cannot_work_is_refused_and_not_repeated(variable: str, url: str, reason: str) -> None:
    urls = {"engine_url": "redis://host/0", "bus_url": "redis://host/0", variable: url}
    with pytest.raises(SettingsError, match=reason) as refused:
        check_together(Settings(database_url="postgresql://host/name", blobs_url="/data/blobs", **urls))  # type: ignore[arg-type]
    assert f"LIMNER_{variable.upper()}" in refused.value.detail
    assert "geh" not in refused.value.detail


def test_nginx_sends_no_files_from_s3() -> None:
    check_together(Settings(accel_prefix="/_blobs/", blobs_url="/data/blobs"))
    with pytest.raises(SettingsError, match="LIMNER_ACCEL_PREFIX"):
        check_together(Settings(accel_prefix="/_blobs/", blobs_url="s3://bucket/photos"))


@pytest.mark.parametrize("prefix", ["_blobs/", "/_blobs", "/a b/", "/\r\nx/", ""])
def test_a_prefix_is_a_path(prefix: str) -> None:
    with pytest.raises(ValueError, match="accel_prefix"):
        Settings(accel_prefix=prefix)
