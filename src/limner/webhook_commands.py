"""The commands `limner webhooks …`, on the database of a service, which may be running."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from limner.command_types import Commands, Duration
from limner.domain.event import EventType
from limner.domain.key import ADMIN_ID, find_key
from limner.domain.webhook import ENDINGS

if TYPE_CHECKING:
    from limner.assembly.stores import Stores
    from limner.domain.webhook import Delivery


@click.group(cls=Commands)
def webhooks() -> None:
    """Add, list and remove receivers of the events of all jobs or of a key's; send events again."""


@webhooks.command("add")
@click.argument("url")
@click.option(
    "--event",
    "events",
    type=click.Choice([each.value for each in EventType]),
    multiple=True,
    help="An event to send; may be repeated. Default: the three that end a job.",
)
@click.option("--key", help="Only of the jobs of this API key, or of `admin`. Default: of all jobs.")
@click.option("--base-url", help="Begins the URLs in what is sent. Default: LIMNER_PUBLIC_URL, or host and port.")
def add(url: str, events: tuple[str, ...], key: str | None, base_url: str | None) -> None:
    """Send events of all jobs, or of those of one key, from now on, to URL. Prints the secret that signs them."""
    from limner import settings
    from limner.assembly.stores import open_stores
    from limner.jobs.webhooks import subscribe
    from limner.web.outgoing import check_url

    chosen = settings.load()
    check_url(url, chosen.fetch_ports, "URL")
    base = (base_url or chosen.public_url or f"http://{chosen.host}:{chosen.port}").rstrip("/")
    with open_stores(chosen) as stores:
        owner = None if key is None else _key_id(stores, key)
        since = stores.events.last_id()
        hook = stores.store.transact(lambda tx: subscribe(tx, url, events or ENDINGS, base, since, owner))
    click.echo(f"webhook {hook.id}")
    click.echo(f"secret: {hook.secret}")


@webhooks.command("list")
def list_webhooks() -> None:
    """List the webhooks of all jobs or of a key's, with their last delivery. Of a URL only the host is shown."""
    from limner import settings
    from limner.assembly.stores import open_stores
    from limner.jobs.webhooks import host_of

    with open_stores(settings.load()) as stores:
        for hook in stores.hooks.of_all():
            last = stores.hooks.recent(hook.id, 1)
            told = f"last: {_told(last[0])}" if last else "none sent"
            whose = "all jobs" if hook.key_id is None else f"jobs of key {hook.key_id}"
            click.echo(f"{hook.id}  {hook.state:8}  {host_of(hook.url)}  {whose}  {hook.events}  {told}")
            if hook.reason:
                click.echo(f"    {hook.reason}")


def _told(delivery: "Delivery") -> str:
    """Its state, the number of tries, and what came of the last one: a status, or why there was none."""
    tries = "1 try" if delivery.tries == 1 else f"{delivery.tries} tries"
    came = f"status {delivery.last_status}" if delivery.last_status is not None else delivery.last_error
    return ", ".join(part for part in (str(delivery.state), tries, came) if part)


@webhooks.command("remove")
@click.argument("webhook_id")
def remove(webhook_id: str) -> None:
    """Remove a webhook and what it was still to be sent."""
    from limner import settings
    from limner.assembly.stores import open_stores
    from limner.domain.errors import NotFoundError

    with open_stores(settings.load()) as stores:
        if not stores.store.transact(lambda tx: tx.hooks.remove(webhook_id)):
            raise NotFoundError(f"There is no webhook {webhook_id}. `limner webhooks list` shows them.")
    click.echo("removed")


@webhooks.command("replay")
@click.option("--job", "job_id", help="Everything that was sent, or is to be sent, about this job.")
@click.option("--webhook", "webhook_id", help="The newest deliveries of this webhook; see --limit.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--failed", is_flag=True, help="Of --webhook, only what could not be delivered.")
def replay(job_id: str | None, webhook_id: str | None, limit: int, failed: bool) -> None:
    """Send events again, with the ids that they had. A disabled webhook is enabled again."""
    from limner import settings
    from limner.assembly.stores import open_stores
    from limner.domain.errors import NotFoundError
    from limner.domain.webhook import DeliveryState
    from limner.jobs.webhooks import replay as send_again
    from limner.jobs.webhooks import replay_of_job

    if (job_id is None) == (webhook_id is None):
        raise click.UsageError("Give either --job or --webhook.")
    if job_id is not None and failed:
        raise click.UsageError("--failed belongs to --webhook.")
    with open_stores(settings.load()) as stores:
        if job_id is not None:
            count = stores.store.transact(lambda tx: replay_of_job(tx, job_id, own=False))
        else:
            if stores.hooks.hook(str(webhook_id)) is None:
                raise NotFoundError(f"There is no webhook {webhook_id}. `limner webhooks list` shows them.")
            found = stores.hooks.recent(str(webhook_id), limit)
            chosen = [each for each in found if not failed or each.state is DeliveryState.FAILED]
            count = stores.store.transact(lambda tx: send_again(tx, chosen))
    click.echo(f"{count} to be sent again")


@webhooks.command("secret")
@click.option("--key", help="Of the jobs of this API key (its first characters or id), or `admin`. Default: of no key.")
@click.option("--webhook", "webhook_id", help="Of this webhook, which `add` has made.")
@click.option("--new", is_flag=True, help="Make a new one.")
@click.option(
    "--overlap",
    type=Duration(),
    default="0s",
    help="How long the one before signs too, e.g. 1d; with --new.",
)
def secret(key: str | None, webhook_id: str | None, new: bool, overlap: timedelta) -> None:
    """Show the secret that signs the webhooks of single jobs (`webhook_url`), or one that `add` has made."""
    if overlap and not new:
        raise click.UsageError("--overlap belongs to --new.")
    if key is not None and webhook_id is not None:
        raise click.UsageError("Give --key or --webhook, not both: a webhook has a secret of its own.")
    from limner import settings
    from limner.assembly.stores import open_stores
    from limner.jobs.webhooks import secret_of_hook, signing_secret

    old_until = datetime.now(UTC) + overlap if overlap else None
    with open_stores(settings.load()) as stores:
        if webhook_id is not None:
            found = stores.store.transact(lambda tx: secret_of_hook(tx, webhook_id, new=new, old_until=old_until))
        else:
            owner = "" if key is None else _key_id(stores, key)
            found = stores.store.transact(lambda tx: signing_secret(tx, owner, new=new, old_until=old_until))
    click.echo(found)


def _key_id(stores: "Stores", key: str) -> str:
    return key if key == ADMIN_ID else find_key(stores.keys.all(), key).id
