"""The command `limner verify-erasure`, on the data of a service, which may be running."""

import json
import sys
from typing import IO

import click

MAX_BYTES = 1_000_000


@click.command("verify-erasure")
@click.argument("receipt", type=click.File("rb"))
def verify_erasure(receipt: IO[bytes]) -> None:
    """Check a receipt of an erasure: that this service issued it, and that nothing of the job is left.

    RECEIPT is a file, or - for the standard input. Exit status 0: nothing is left; 1: see the lines that begin with
    BAD; 2: the file is no receipt.
    """
    from limner import settings
    from limner.assembly.stores import open_stores
    from limner.jobs.receipts import Verifier, is_receipt

    try:
        value = json.loads(receipt.read(MAX_BYTES))
    except (ValueError, RecursionError):
        value = None
    if not is_receipt(value):
        raise click.UsageError("The file is not a receipt of this version.")
    holds = True
    with open_stores(settings.load()) as stores:
        verifier = Verifier(stores.store, stores.reader, stores.hooks, stores.events, stores.traces, stores.blobs)
        for finding in verifier.check(value):
            holds = holds and finding.good
            click.echo(f"{'ok  ' if finding.good else 'BAD '} {finding.text}")
    click.echo("nothing of the job is left" if holds else "the erasure does not hold")
    sys.exit(0 if holds else 1)
