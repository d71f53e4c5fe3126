"""Event streams on real logs, which other processes write too."""

import asyncio

from limner.adapters.local_bus import LocalBus
from limner.domain.key import ANYONE
from limner.web.event_streams import Streams
from tests.contract.machine import Machine, new_job


def test_who_knows_an_event_that_this_process_has_not_read_yet_does_not_get_it_again(machine: Machine) -> None:
    """The client had it from another process, which read it first."""

    async def ids() -> list[int]:
        streams = Streams(machine.log, LocalBus(), buffer=10, max_sockets=10)
        await streams.start()
        try:
            machine.submit(new_job())
            known = machine.log.last_id()
            batches = streams.listen(after=known, caller=ANYONE)
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(1.5)  # by then, this process has read the first event
            machine.submit(new_job())
            batch = await asyncio.wait_for(waiting, 10)
            return [each.event.id - known for each in batch]
        finally:
            await streams.stop()

    assert asyncio.run(ids()) == [1]
