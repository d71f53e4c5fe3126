"""How far the retention of jobs has come: a clock that jumps ahead must not erase at once what it makes look old."""

import logging
from datetime import datetime, timedelta

from limner.ports import JobReader, JobStore, Transaction

log = logging.getLogger(__name__)

REACHED = "retention_reached"
ASKED = "retention_asked"
MOST = timedelta(days=1)
LONG = timedelta(days=2)
PACE = 24  # a day an hour, however often a service starts


def reached(store: JobStore, reader: JobReader, now: datetime) -> datetime:
    """The moment that ages are counted up to: `now`, where the clock has gone on as usual.

    It is remembered in the store, and moves on by at most a day at a time and a day an hour; not at all where the last
    time seems to be days ago. So after a jump of the clock, which cannot be told from a service that was off, nothing
    is erased at once: old jobs go little by little from the next time on, and the log warns.
    """
    newest = reader.page(limit=1)
    start = min(newest[0].created_at, now) if newest else now

    def move_on(tx: Transaction) -> datetime:
        known, asked = (_moment(tx.fact(name)) or start for name in (REACHED, ASKED))
        passed = max(now - asked, timedelta(0))
        moved = min(now, known if passed > LONG else known + min(MOST, PACE * passed))
        tx.set_fact(REACHED, moved.isoformat())
        tx.set_fact(ASKED, now.isoformat())
        return moved

    moment = store.transact(move_on)
    if moment < now:
        log.warning(
            "the clock is far ahead of the last tidying; old jobs are erased a day's worth an hour",
            extra={"hours": round((now - moment).total_seconds() / 3600)},
        )
    return moment


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
