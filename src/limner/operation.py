"""An operation: a function from parameters and a context to a result, with a name and a version.

Its endpoint, validation, schema, form, cache key and metrics follow from its signature. To add one, write a file in
`operations/` and list it in the catalogue there. `operations/detect.py` is an example.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_type_hints

from annotated_types import MaxLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.choices import UNKNOWN, NullIsAbsent, flat_fields, flat_place, flat_values, lists
from limner.context import Context
from limner.domain.errors import InvalidRequestError
from limner.image_ref import ImageRef, of_field
from limner.vision.header import Limits


def invalid_fields(errors: Sequence[Any]) -> InvalidRequestError:
    """pydantic's errors as one problem: `errors` lists each field with a message, never with its value."""
    listed = [
        {
            "field": ".".join(str(part) for part in error["loc"])[:100] or "(body)",
            "message": error["msg"].removeprefix("Value error, "),
        }
        for error in errors[:20]
    ]
    return InvalidRequestError(f"{listed[0]['field']}: {listed[0]['message']}", errors=listed)


class Params(NullIsAbsent):
    """Base class of all parameters. Unknown fields are an error, so that a misspelt one is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_in_cache_key: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not change the result and are therefore left out of the cache key."""

    def work(self) -> dict[str, Any]:
        """What decides the result: all fields but those of `not_in_cache_key`, as JSON has them."""
        return self.model_dump(mode="json", exclude=set(self.not_in_cache_key))

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
        """Adapt the values given on the command line; `output` is the path for artifacts, None without one."""
        del output
        return dict(given)


_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}


def format_of(output: PurePath | None) -> str | None:
    """The format that the suffix of an output file stands for, None if there is none."""
    return None if output is None else _FORMATS.get(output.suffix.lower())


def picture_file(stem: str, form: str) -> str:
    """The file name of a picture of this format."""
    return f"{stem}.{'jpg' if form == 'jpeg' else form}"


class PhotoParams(Params):
    """Base class of the parameters of an operation that needs a photo."""

    image: ImageRef = Field(title="Photo")


class SimilarParams(PhotoParams):
    """Base class of the parameters of an operation that declares `similar_within`."""

    not_in_cache_key: ClassVar[frozenset[str]] = frozenset({"cache"})

    cache: Annotated[
        Literal["exact", "similar"],
        Field(
            title="Cache",
            description="`similar`: also accept the result of a photo that looks the same, for the same parameters",
        ),
    ] = "exact"


class Result(BaseModel):
    """Base class of all results."""

    model_config = ConfigDict(frozen=True)

    is_its_files: ClassVar[bool] = False
    """Whether the artifacts are what was asked for. Then the command line writes them without being told where."""

    def summary(self) -> dict[str, int]:
        """A few numbers about the result, for events and metrics; `faces_count` if it has faces."""
        return {}

    def in_words(self) -> str:
        """One short line for the terminal."""
        return "done"

    def leaves_photo(self, values: Mapping[str, Any]) -> bool:
        """Whether a changed photo was asked for by these parameters, and there was nothing to change in it.

        The command line then copies the photo to where the changed one would be.
        """
        del values
        return False


P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Choices(Generic[P]):
    """What the parameters of an operation decide, beside its result."""

    lane: Callable[[P], str] = lambda _: ""
    """Where it runs; empty: in the operation's first lane."""
    fingerprint: Callable[[P], str] = lambda _: ""
    """What decides the result, such as weights that only these parameters use."""
    settle: Callable[[P, str], P] = lambda params, _: params
    """See `Operation.settled`; called once, before the job is stored."""
    fresh: Callable[[P], bool] = lambda _: False
    """Whether the work is done anew for each request, whatever results there are."""
    covers: Callable[[P], bool] = lambda _: False
    """Whether faces are to be covered: then nothing small may show the photo instead of the result."""
    ready_lanes: Callable[[], tuple[str, ...]] | None = None
    """The lanes in which its jobs can run as this machine is set up; None: in all of the operation's."""


@dataclass(frozen=True)
class Operation(Generic[P, R]):
    """An operation as it stands in the catalogue; `operation` makes it."""

    name: str
    summary: str
    version: int
    lanes: tuple[str, ...]
    params: type[P]
    result: type[R]
    run: Callable[[P, Context], R]
    models: tuple[str, ...]
    check: Callable[[P], None] | None
    similar_within: int | None
    yields: bool
    choices: "Choices[P]"

    def lane(self, params: P) -> str:
        """Where a job with these parameters runs."""
        return self.choices.lane(params) or self.lanes[0]

    def covers(self, params: P) -> bool:
        """Whether a job with these parameters is to cover faces."""
        return self.choices.covers(params)

    def ready_lanes(self) -> tuple[str, ...]:
        """The lanes in which its jobs can run here: without those of painters that are not ready."""
        return self.lanes if self.choices.ready_lanes is None else self.choices.ready_lanes()

    def settled(self, params: P, request: str) -> P:
        """The parameters with nothing left to chance, so that their results can be told apart.

        `request` identifies the request: the same parameters are settled in the same way for the same request.
        """
        return self.choices.settle(params, request)

    def fingerprint(self, params: P, of_models: Callable[[tuple[str, ...]], str], request: str) -> str:
        """What beside the parameters decides the result. A result that must not answer other requests has its own."""
        own = self.choices.fingerprint(params)
        alone = f" {request}" if self.choices.fresh(params) else ""
        return f"{of_models(self.models)}{' ' if own else ''}{own}{alone}"

    @cached_property
    def image_fields(self) -> tuple[str, ...]:
        """Names of the parameters that are pictures; `image` comes first."""
        return tuple(
            name
            for name, field in self.params.model_fields.items()
            if field.annotation is ImageRef or ImageRef in get_args(field.annotation)
        )

    def as_sent(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Stored parameters in the form in which a client would send them again, without pictures.

        They may be those of an older version; what is not known is left as it is.
        """
        return {
            name: value
            for name, value in flat_values(self.params, params).items()
            if name not in self.image_fields and value is not None
        }

    def parse(self, values: Mapping[str, Any], pictures: Mapping[str, bytes], limits: Limits) -> P:
        """Validate plain values and pictures (not decoded: `structure.look`), and run the operation's own `check`.

        InvalidRequestError lists the wrong fields; TooLargeError, UnsupportedMediaError, BadImageError for a picture.
        """
        given = {**values, **{name: of_field(name, data, limits) for name, data in pictures.items()}}
        if "image" not in given and self.params.model_fields["image"].is_required():
            raise InvalidRequestError("image: A picture is required: a file part, base64 or image_url.", field="image")
        _refuse_long(self.params, values)
        try:
            params = self.params.model_validate(given)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False, include_context=False)
            places = [flat_place(self.params, each["loc"], of_name=each["type"] == UNKNOWN) for each in found]
            raise invalid_fields([{**each, "loc": at} for each, at in zip(found, places, strict=True)]) from None
        if self.check is not None:
            self.check(params)
        return params

    def cache_key(self, params: P, fingerprint: str) -> str:
        """Hash of operation, version, models, pictures and parameters: equal exactly for the same work."""
        return self._key(params, fingerprint, [])

    def similarity_key(self, params: P, fingerprint: str) -> str | None:
        """The same hash without the photo: equal for jobs whose photos only need to look the same."""
        if self.similar_within is None:
            return None
        photo: ImageRef = params.image  # type: ignore[attr-defined]  # they are `SimilarParams`
        return self._key(params, fingerprint, [photo.width, photo.height])

    def _key(self, params: P, fingerprint: str, size: list[int]) -> str:
        what = {name: value for name, value in params.work().items() if not (size and name == "image")}
        work = [self.name, self.version, fingerprint, size, what]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


@cache
def _longest(params: type[BaseModel]) -> dict[str, int]:
    """The `max_length` of each field that has one; where several models have the field, the largest."""
    found: dict[str, int] = {}
    for name, field in flat_fields(params):
        for each in field.metadata:
            if isinstance(each, MaxLen):
                found[name] = max(each.max_length, found.get(name, 0))
    return found


def _refuse_long(params: type[BaseModel], values: Mapping[str, Any], place: tuple[int | str, ...] = ()) -> None:
    """InvalidRequestError for a value longer than its `max_length`, before each of its members is validated.

    pydantic looks at the members of an object first, and makes an error of each that is wrong.
    """
    for name in lists(params):
        if values.get(name) is not None and not isinstance(values[name], list):
            raise invalid_fields([{"loc": (*place, name), "msg": "The value must be a JSON list."}])
    longest = _longest(params)
    for name, value in values.items():
        most = longest.get(name)
        if most is not None and isinstance(value, str | list | dict) and len(value) > most:
            what = "characters" if isinstance(value, str) else "entries"
            message = f"At most {most} {what} are allowed, not {len(value)}."
            raise invalid_fields([{"loc": (*place, name), "msg": message}])
    for name, choice in lists(params).items():
        members = values.get(name)
        for number, member in enumerate(members if isinstance(members, list) else ()):
            if isinstance(member, dict) and (model := choice.models.get(str(member.get(choice.tag)))) is not None:
                _refuse_long(model, member, (*place, name, number))


def operation(
    *,
    version: int,
    lanes: tuple[str, ...] = ("cpu",),
    models: tuple[str, ...] = (),
    check: Callable[[P], None] | None = None,
    similar_within: int | None = None,
    yields: bool = False,
    choices: Choices[P] | None = None,
) -> Callable[[Callable[[P, Context], R]], Operation[P, R]]:
    """Make a function `(params, ctx) -> result` an operation. The first line of its docstring is the summary.

    Increase `version` whenever the same input gives another result. `models` names the weights that it uses. `check`
    is called at submission and raises for parameters that would make the job fail, so that the client learns it at
    once. `similar_within` is the largest difference, in bits, of perceptual hashes for which a request may accept the
    result of another photo; the parameters are then `SimilarParams`, and the function calls `Context.recognise`.
    `lanes` are all that `choices` may decide for. With `yields`, a job is refused as if the queue were full while any
    job of its lane waits: for what is nice to have, and short.
    """

    def declare(run: Callable[[P, Context], R]) -> Operation[P, R]:
        hints: dict[str, Any] = get_type_hints(run)
        return Operation(
            name=run.__name__,
            summary=(run.__doc__ or "").strip().splitlines()[0],
            version=version,
            lanes=lanes,
            params=hints["params"],
            result=hints["return"],
            run=run,
            models=models,
            check=check,
            similar_within=similar_within,
            yields=yields,
            choices=choices or Choices(),
        )

    return declare
