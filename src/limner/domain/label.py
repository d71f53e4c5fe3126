"""Labels: what a client calls a job, such as the name of the photo's file."""

import unicodedata

from limner.domain.errors import InvalidRequestError

FIELD = "label"
MAX_LABEL = 200
MAX_SEARCHED = 400  # some letters become two or three when their case is folded, and an entry of an index is bounded
_REFUSED = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of a pair, and what begins a new line


def checked_label(given: object) -> str | None:
    """The label without spaces around it, None if nothing is left. InvalidRequestError."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise InvalidRequestError(f"{FIELD}: The value must be a text.", field=FIELD)
    label = given.strip()
    if len(label) > MAX_LABEL:
        raise InvalidRequestError(f"{FIELD}: At most {MAX_LABEL} characters are allowed.", field=FIELD)
    if any(unicodedata.category(letter) in _REFUSED for letter in given):
        raise InvalidRequestError(f"{FIELD}: Control characters are not allowed.", field=FIELD)
    return label or None


def folded(label: str) -> str:
    """The label as a search compares it: capital letters, and the two ways to write an accent, make no difference."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).casefold())[:MAX_SEARCHED]
