"""Which names a query may have. One that nobody reads is refused: a misspelt filter must not look as if it worked."""

from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, TypeVar
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


def names_of(route: APIRoute | APIWebSocketRoute) -> frozenset[str] | None:
    """The names that a route's query may have; None for any."""
    if getattr(route.endpoint, "any_query", False):
        return None
    need = need_of(route.endpoint)
    declared: Iterable[Any] = route.dependant.query_params
    return frozenset((*(each.alias for each in declared), *_SIGNATURE * need.signed, *_TICKET * need.ticket))


def check_names(query: bytes, known: Collection[str] | None) -> None:
    """InvalidRequestError for the names of a query string that are not known."""
    if not query or known is None:
        return
    sent = [unquote_plus(part.partition("=")[0]) for part in query.decode("latin-1").split("&") if part]
    unknown = [name for name in dict.fromkeys(sent) if name not in known]
    if unknown:
        listed = f"Known are: {', '.join(sorted(known))}." if known else "There are none here."
        raise invalid_fields(
            [{"loc": (name,), "msg": f"There is no such query parameter. {listed}"} for name in unknown]
        )
