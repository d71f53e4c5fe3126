"""`limner sign`: prints the URL of a picture, signed with the service's key."""

import time
from datetime import timedelta
from typing import Any

import click

from limner.command_types import Duration
from limner.domain.errors import SettingsError


@click.command()
@click.argument("operation")
@click.argument("source")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="A parameter of the operation.")
@click.option("--base", help="What the URL begins with (LIMNER_PUBLIC_URL, else where the service listens).")
@click.option("--expires", type=Duration(), help="How long the URL works, e.g. 7d; default: for ever.")
def sign(operation: str, source: str, options: tuple[str, ...], base: str | None, expires: timedelta | None) -> None:
    """Print the URL of the picture that OPERATION makes of the photo at SOURCE, a URL or a job's id.

    It is signed with the first key of LIMNER_IMAGE_KEYS. No service needs to run.
    """
    from limner import settings

    chosen = settings.load()
    if not chosen.image_keys:
        raise SettingsError("LIMNER_IMAGE_KEYS is not set. Make a key with `openssl rand -base64 32`.")
    ends = None if expires is None else int(time.time() + expires.total_seconds())
    text = _checked(operation, _values(options), source, ends, chosen.fetch_ports)
    path = _signed(chosen.image_keys[0].get_secret_value(), text)
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    start = base or chosen.public_url or f"http://{host}:{chosen.port}"
    click.echo(f"{start.rstrip('/')}{path}")


def _values(options: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name in values:
            raise click.BadParameter(f"must be NAME=VALUE, each name once: {option}", param_hint="-o")
        values[name] = value
    return values


def _checked(operation: str, values: dict[str, Any], source: str, expires: int | None, ports: tuple[int, ...]) -> str:
    """What is to be signed, once it is known that the service can answer it. LimnerError otherwise."""
    from limner.operations import CATALOGUE
    from limner.web import signed_url
    from limner.web.outgoing import check_url

    text = signed_url.write(operation, values, source, expires=expires)
    asked = signed_url.read(text)
    signed_url.values_for(CATALOGUE[asked.operation], asked)
    if asked.url is not None:
        check_url(asked.url, ports, "source")
    return text


def _signed(key: str, text: str) -> str:
    """The signed path. LimnerError for one that is too long."""
    from limner.web import signed_url

    signature = signed_url.signature_of(key, text)
    path = f"{signed_url.PREFIX}{signature}{text}"
    signed_url.split(path.encode())
    return path
