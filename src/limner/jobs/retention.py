"""The moment up to which jobs' age is counted. When the clock jumps ahead, old jobs are not all erased at once."""

import logging
from datetime import datetime, timedelta

from limner.ports import JobReader, JobStore, Transaction

log = logging.getLogger(__name__)

REACHED = "retention_reached"  # the moment that was returned last
ASKED = "retention_asked"  # the clock's time at that call
MAX_STEP = timedelta(days=1)
LONG_PAUSE = timedelta(days=2)
MAX_PACE = 24  # times the clock's pace: one day in an hour, however often the service starts


def reached(store: JobStore, reader: JobReader, now: datetime) -> datetime:
    """The moment up to which ages are counted: `now`, unless the clock has jumped or the service was off for long.

    The moment is remembered in the store. It advances by at most one day at a call and one day in an hour, and not at
    all if the last call was more than two days ago. A jump of the clock looks the same as a service that was off, so
    in both cases nothing is erased at once: old jobs are erased from the next call on, and the log warns.
    """
    newest = reader.page(limit=1)
    start = min(newest[0].created_at, now) if newest else now

    def advance(tx: Transaction) -> datetime:
        known, asked = (_moment(tx.fact(name)) or start for name in (REACHED, ASKED))
        passed = max(now - asked, timedelta(0))
        moved = min(now, known if passed > LONG_PAUSE else known + min(MAX_STEP, MAX_PACE * passed))
        tx.set_fact(REACHED, moved.isoformat())
        tx.set_fact(ASKED, now.isoformat())
        return moved

    moment = store.transact(advance)
    if moment < now:
        log.warning(
            "the clock is far ahead of the last sweep; in each hour, the jobs of one day are erased",
            extra={"hours": round((now - moment).total_seconds() / 3600)},
        )
    return moment


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
