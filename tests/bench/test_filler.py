"""The filler of `limner bench scale`: both databases get jobs that the service reads, and their indexes back."""

from pathlib import Path

import pytest

from limner.adapters.sql.migrate import migrate
from limner.adapters.sql.opening import open_stores
from limner.bench.filler_rows import IDLE_LANE, KEY_ID, RARE, RARE_KEY_ID, WAITING
from limner.bench.scratch import Scratch, SqliteScratch, empty_redis, scratch
from limner.domain.errors import SettingsError
from limner.domain.job import Status
from limner.ports import JobFilter
from tests.services.postgres import Postgres
from tests.services.redis_server import RedisServer

JOBS = 700
INDEXES = {
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'index'",
    "postgresql": "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'",
}


def check_filled(empty: Scratch) -> None:
    stores = open_stores(empty.url, durable=False)
    migrate(stores.database)
    kind = empty.url.partition(":")[0]

    def indexes() -> int:
        with stores.database.reading() as db:
            return int(db.connection.execute(INDEXES[kind]).fetchone()[0])

    before = indexes()
    stores.close()
    middle, waiting = empty.fill(JOBS, "k" * 64, ("lim_owner", "lim_rare"))
    stores = open_stores(empty.url, durable=False)
    try:
        assert indexes() == before
        reader = stores.reader
        assert reader.count(Status.QUEUED) == WAITING
        assert reader.ahead(waiting, IDLE_LANE, limit=1000) == (WAITING - 1, 0)
        assert reader.lanes()[0].queued == WAITING
        assert len(reader.page(JobFilter(key_id=RARE_KEY_ID))) == len(RARE)
        assert len(reader.page(JobFilter(key_id=KEY_ID), limit=50)) == JOBS // 20
        found = reader.get(middle)
        assert found is not None
        assert found.cache_key == "k" * 64
        assert found.artifacts == ()
        assert len(stores.events.after(0, limit=500, key_id=RARE_KEY_ID)) == 3 * len(RARE)
        assert empty.size() > 100_000
    finally:
        stores.close()


def test_sqlite_is_filled(tmp_path: Path) -> None:
    check_filled(SqliteScratch(tmp_path))


def test_postgresql_is_filled_and_its_database_is_dropped(postgres: Postgres) -> None:
    with scratch(postgres.url("postgres")) as empty:
        check_filled(empty)
        assert empty.busy_s() >= 0
    names = "SELECT datname FROM pg_database WHERE datname LIKE 'limner_bench_%'"
    assert postgres.execute(postgres.url("postgres"), names) == []


def test_a_server_that_cannot_be_used_is_a_wrong_option() -> None:
    with pytest.raises(SettingsError, match="--database-url"), scratch("postgresql://nobody@127.0.0.1:1/none"):
        pass


def test_redis_must_be_empty_and_is_emptied(redis_server: RedisServer) -> None:
    import redis

    url = redis_server.new_database()
    with empty_redis(url), redis.Redis.from_url(url) as client:
        client.set("left", "over")
        with pytest.raises(SettingsError, match="empty"), empty_redis(url):
            pass
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() == 0
