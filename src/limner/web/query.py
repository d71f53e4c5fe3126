"""Which names a query may have. One that nobody reads is refused: a misspelt filter must not look as if it worked.
So is one that is sent twice and read once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin
from urllib.parse import unquote_plus

from fastapi.routing import APIRoute, APIWebSocketRoute
from pydantic import AfterValidator

from limner.operation import invalid_fields
from limner.web.admission import need_of

F = TypeVar("F", bound=Callable[..., object])

JobId = Annotated[str, AfterValidator(str.lower)]
"""A job's id in a query. In capitals it is the same id, as in a path (`dispatch.py`)."""

_SIGNATURE = ("expires", "signature")
_TICKET = ("ticket",)


def any_query(function: F) -> F:
    """Declare that a route's function accepts names that it does not declare: it reads the query by itself, or its
    path is one of an earlier service, which has always ignored them (`?t=…` against caches)."""
    function.any_query = True  # type: ignore[attr-defined]  # a function's own attribute
    return function


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a query may have, and which of them it may have several times."""

    known: frozenset[str]
    repeated: frozenset[str]


def names_of(route: APIRoute | APIWebSocketRoute) -> Names | None:
    """The names that a route's query may have; None for any."""
    if getattr(route.endpoint, "any_query", False):
        return None
    need = need_of(route.endpoint)
    declared: Iterable[Any] = route.dependant.query_params
    return Names(
        frozenset((*(each.alias for each in declared), *_SIGNATURE * need.signed, *_TICKET * need.ticket)),
        frozenset(each.alias for each in declared if _is_list(each.field_info.annotation)),
    )


def _is_list(annotation: Any) -> bool:
    return any(get_origin(each) is list for each in (annotation, *get_args(annotation)))


def check_names(query: bytes, names: Names | None) -> None:
    """InvalidRequestError for the names of a query string that are not known, or that it has too often."""
    if not query or names is None:
        return
    sent = Counter(unquote_plus(part.partition("=")[0]) for part in query.decode("latin-1").split("&") if part)
    unknown = [name for name in sent if name not in names.known]
    twice = [name for name, times in sent.items() if times > 1 and name not in (*unknown, *names.repeated)]
    if unknown or twice:
        listed = f"Known are: {', '.join(sorted(names.known))}." if names.known else "There are none here."
        wrong = dict.fromkeys(unknown, f"There is no such query parameter. {listed}")
        wrong |= dict.fromkeys(twice, "The query parameter was sent twice.")
        raise invalid_fields([{"loc": (name,), "msg": told} for name, told in wrong.items()])
