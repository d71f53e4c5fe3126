"""The tables, as the newest migration creates them. Columns of jobs, files and events are named like the fields."""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, text

from limner.adapters.sql.columns import Json, Moment, Word
from limner.domain.blob import BlobState
from limner.domain.event import EventType
from limner.domain.job import Role, Status
from limner.domain.webhook import DeliveryState, HookState

metadata = MetaData()
postgres_metadata = MetaData()
"""What only PostgreSQL has."""

LEAVING = text("blobs.state <> 'kept'")


def _key(length: int) -> String:
    """Text that identifies something: compared byte by byte, whatever the language of the database."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


# An index ends in the id if a query needs the rows in order or only the first. Queries repeat the condition of a
# partial index literally, because the database does not recognise it if it contains a parameter.
jobs = Table(
    "jobs",
    metadata,
    Column("id", _key(36), primary_key=True),  # UUIDv7, which sorts by age
    Column("operation", String(64), nullable=False),
    Column("lane", String(32), nullable=False),
    Column("params", Json, nullable=False),
    Column("cache_key", _key(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("status", Word(Status, 16), nullable=False),
    Column("progress", Float, nullable=False),
    Column("cached", String(16)),
    Column("cache_distance", Integer),
    Column("similarity_key", _key(64)),
    Column("phash", String(16)),
    Column("idempotency_key", _key(255)),
    Column("attempt", Integer, nullable=False),
    Column("leader_id", _key(36)),
    Column("worker", String(128)),
    Column("lease_until", Moment),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("computed_at", Moment),
    Column("result", Json),
    Column("error", Json),
    Column("summary", Json),
    Column("key_id", String(36)),
    Column("sent_at", Moment),
    Column("traceparent", String(55)),
    Column("label", String(200)),
    Column("searched_label", _key(400)),
    Index("jobs_by_age", "created_at"),
    Index("jobs_by_status", "status", "id"),
    Index("jobs_by_operation", "operation", "id"),
    Index("jobs_by_operation_and_status", "operation", "status", "id"),
    Index("jobs_by_cache_key", "cache_key", "status", "id"),
    _partial("jobs_by_similarity_key", "similarity_key", "status", "id", where="similarity_key IS NOT NULL"),
    _partial("jobs_by_idempotency_key", "idempotency_key", where="idempotency_key IS NOT NULL", unique=True),
    _partial("jobs_by_leader", "leader_id", "id", where="leader_id IS NOT NULL"),
    _partial("jobs_queued", "lane", "leader_id", "id", where="status = 'queued'"),
    _partial("jobs_by_key", "key_id", "id", where="key_id IS NOT NULL"),
    _partial("jobs_by_key_and_operation", "key_id", "operation", "id", where="key_id IS NOT NULL"),
    _partial("jobs_by_key_and_status", "key_id", "status", "id", where="key_id IS NOT NULL"),
    # A search reads these indexes and no rows.
    _partial("jobs_labelled", "id", "searched_label", where="searched_label IS NOT NULL"),
    _partial("jobs_by_key_labelled", "key_id", "id", "searched_label", where="searched_label IS NOT NULL"),
)

files = Table(
    "files",
    metadata,
    Column("id", _key(36), primary_key=True),
    Column("job_id", _key(36), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("role", Word(Role, 16), nullable=False),
    Column("name", String(128), nullable=False),
    Column("sha256", _key(64), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("position", Integer, nullable=False),
    Index("files_by_job", "job_id", "position"),
    Index("files_by_sha256", "sha256"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", _key(64), primary_key=True),
    Column("state", Word(BlobState, 16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("changed_at", Moment, nullable=False),
    _partial("blobs_leaving", "state", "changed_at", where="state <> 'kept'"),
)

# Totals are lists of changes, so that writers do not wait for each other to update one sum. The sweep combines them.
totals = Table(
    "totals",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", String(32), nullable=False),
    Column("amount", BigInteger, nullable=False),
)

# About the database itself: see `jobs/pairing.py` and `jobs/sweep.py`.
facts = Table(
    "facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(255), nullable=False),
)

# API keys: see `domain/key.py`.
keys = Table(
    "keys",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("scopes", String(64), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("rate_per_minute", Integer),
    Column("daily_quota", Integer),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    Column("old_hash", String(64)),
    Column("old_until", Moment),
    Index("keys_by_hash", "hash", unique=True),
    _partial("keys_by_old_hash", "old_hash", where="old_hash IS NOT NULL"),
)

events = Table(
    "events",
    metadata,
    # AUTOINCREMENT: an id is never reused, even after the newest rows were removed.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("type", Word(EventType, 32), nullable=False),
    Column("time", Moment, nullable=False),
    Column("job_id", _key(36), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("content", Json),
    Column("key_id", String(36)),
    Index("events_by_job", "job_id", "id"),
    Index("events_by_operation", "operation", "id"),
    _partial("events_by_key", "key_id", "id", where="key_id IS NOT NULL"),
    sqlite_autoincrement=True,
)

# Webhooks and their deliveries: see `domain/webhook.py`. No foreign key leads to jobs; an erasure removes the rows.
hooks = Table(
    "hooks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("url", String(2048), nullable=False),
    Column("events", String(255), nullable=False),
    Column("state", Word(HookState, 16), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("since_event", BigInteger, nullable=False),
    Column("job_id", String(36)),
    Column("key_id", String(36)),
    Column("base_url", String(2048)),
    Column("secret", String(128)),
    Column("failing_since", Moment),
    Column("reason", String(255)),
    _partial("hooks_by_job", "job_id", "id", where="job_id IS NOT NULL"),
    _partial("hooks_of_all", "id", where="job_id IS NULL"),
    _partial("hooks_active", "since_event", where="state = 'active'"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("hook_id", String(36), nullable=False),
    Column("job_id", String(36), nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("event_type", Word(EventType, 32), nullable=False),
    Column("host", String(255), nullable=False),
    Column("state", Word(DeliveryState, 16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try_at", Moment, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("last_status", Integer),
    Column("last_error", String(255)),
    Column("ended_at", Moment),
    Index("deliveries_by_job", "job_id", "hook_id", "event_id"),
    Index("deliveries_by_hook", "hook_id", "event_id"),
    _partial("deliveries_waiting", "next_try_at", where="state = 'waiting'"),
)

# What signs webhooks that have no secret of their own. The owner is a key's id, or empty for the service; or that of a
# webhook of all jobs whose secret was replaced.
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("owner", String(36), primary_key=True),
    Column("secret", String(128), nullable=False),
    Column("old_secret", String(128)),
    Column("old_until", Moment),
)

# Events that readers have not numbered yet, see `outbox.py`. The numbers of one job's events rise.
outbox = Table(
    "outbox",
    postgres_metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=True),
    Column("type", Word(EventType, 32), nullable=False),
    Column("time", Moment, nullable=False),
    Column("job_id", _key(36), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("content", Json),
    Column("key_id", String(36)),
)
