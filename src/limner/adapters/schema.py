"""The tables, as the newest migration leaves them. Times are microseconds since 1970 UTC; JSON is text."""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(36), primary_key=True),  # UUIDv7: sorts by age
    Column("operation", String(64), nullable=False),
    Column("lane", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("progress", Float, nullable=False),
    Column("cached", String(16)),
    Column("cache_distance", Integer),
    Column("look", String(16)),
    Column("rest_key", String(64)),
    Column("params", Text, nullable=False),
    Column("cache_key", String(64), nullable=False),
    Column("leader_id", String(36)),
    Column("attempt", Integer, nullable=False),
    Column("lease_until", BigInteger),
    Column("idempotency_key", String(255), unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("computed_at", BigInteger),
    Column("result", Text),
    Column("error", Text),
    Column("faces_count", Integer),
    Index("jobs_by_status", "status", "id"),
    Index("jobs_by_operation", "operation", "id"),
    Index("jobs_by_cache_key", "cache_key", "status"),
    Index("jobs_by_rest_key", "rest_key", "status"),
    Index("jobs_by_leader", "leader_id"),
)

files = Table(
    "files",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("name", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Index("files_by_job", "job_id"),
    Index("files_by_sha256", "sha256"),
)

events = Table(
    "events",
    metadata,
    # AUTOINCREMENT: an id is never given twice, also after the newest rows were removed.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("type", String(32), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("job_id", String(36), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("content", Text),
    Index("events_by_job", "job_id"),
    Index("events_by_time", "time"),
    sqlite_autoincrement=True,
)
