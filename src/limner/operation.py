"""An operation: a function from parameters and a context to a result, with a name and a version.

Its endpoint, validation, schema, form, cache key and metrics follow from its signature. To add one, write a file in
`operations/` and list it in the catalogue there. `operations/detect.py` is an example.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_type_hints

from annotated_types import MaxLen
from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from limner.choices import UNKNOWN, NullIsAbsent, flat_fields, flat_place, flat_values, lists
from limner.domain.errors import InvalidRequestError, LimnerError
from limner.tracing import step
from limner.vision.header import Limits
from limner.vision.structure import look

if TYPE_CHECKING:  # not at run time: the web process loads no models
    from limner.vision.image import Picture, Pixels
    from limner.vision.models import Models
    from limner.vision.thumbnail import Thumbnail


class ImageRef(BaseModel):
    """An uploaded picture that is stored. Width and height are those of the upright picture, pixels."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    frames: int = Field(1, exclude=True)
    """Only known when the request arrives: operations may refuse animations, and the stored job needs it no more."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # A client sends the picture itself, not this record.
        del core_schema, handler
        return {
            "type": "string",
            "format": "binary",
            "description": "The picture: a file part of a form, or base64 or a data URL in JSON.",
        }


def reference(data: bytes, limits: Limits) -> ImageRef:
    """The record of a picture; reads only its structure. TooLargeError, UnsupportedMediaError, BadImageError."""
    info = look(data, limits)
    return ImageRef(
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=info.media_type,
        size=len(data),
        width=info.width,
        height=info.height,
        frames=info.frames,
    )


def _reference(name: str, data: bytes, limits: Limits) -> ImageRef:
    """The same for the picture of a field, which the error names where it is not the photo."""
    try:
        return reference(data, limits)
    except LimnerError as error:
        if name != "image":
            error.detail = f"{name}: {error.detail}"
            error.args = (error.detail,)
        raise


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


class CancelledError(Exception):
    """The job was cancelled, erased or overtaken by another attempt: the operation must stop."""


class Context:
    """What an operation can use while it runs: models, limits, the pictures' bytes, artifacts, progress."""

    def __init__(
        self,
        *,
        models: "Models",
        limits: Limits,
        read: Callable[[str], bytes],
        attach: Callable[[str, bytes, str, int | None, int | None], None],
        check: Callable[[], None] = lambda: None,
        tell: "Callable[[float, Pixels | None], None]" = lambda _fraction, _preview: None,
        recognise: Callable[[int], None] = lambda _: None,
        thumbnail: "Thumbnail | None" = None,
    ) -> None:
        """`read` returns a blob by its SHA-256; `check` raises when the job must stop; `tell` tells the clients.

        `thumbnail` sees the pictures, if one is wanted.
        """
        self.models = models
        self.limits = limits
        self._tell = tell
        self._check = check
        self.stages: dict[str, float] = {}
        self.recognise = recognise
        """An operation with `similar_within` calls this with the photo's perceptual hash as soon as it is computed.
        It is stored with the result. If the request allows it and there is a similar result, the job ends here."""
        self._read = read
        self._attach = attach
        self._thumbnail = thumbnail
        self.attached: list[str] = []
        """Names of the artifacts so far."""
        self._before_names = ""
        self._pictures: dict[str, Picture] | None = None  # what the steps of a pipeline have decoded, by SHA-256

    def of_step(self, name: str, number: int, steps: int) -> "Context":
        """What step `number` (from 0) of a pipeline uses: it shares the decoded pictures with the other steps.

        Its artifacts are named `<name>.<own name>`, and its progress is a part of the whole.
        """
        if self._pictures is None:
            self._pictures = {}
        part = Context(
            models=self.models,
            limits=self.limits,
            read=self._read,
            attach=self._attach,
            check=self._check,
            tell=lambda fraction, preview: self._tell((number + fraction) / steps, preview),
            thumbnail=self._thumbnail,
        )
        part.stages, part._pictures, part._before_names = self.stages, self._pictures, f"{name}."
        return part

    def data(self, ref: ImageRef) -> bytes:
        """The picture's bytes as they were uploaded."""
        return self._read(ref.sha256)

    def picture(self, ref: ImageRef, *, to_change: bool = False) -> "Picture":
        """The picture, decoded at its full size. Its pixels may be changed only with `to_change`."""
        from limner.vision import image

        shared = None if self._pictures is None else self._pictures.get(ref.sha256)
        if shared is None:
            shared = image.decode_picture(self.data(ref), self.limits)
            if self._pictures is not None or not to_change:
                self.see_photo(ref, shared.pixels, alpha=shared.alpha, profile=shared.profile)
            if self._pictures is None:
                return shared
            self._pictures[ref.sha256] = shared
        return shared.copy() if to_change else shared

    def pixels(self, ref: ImageRef, *, at_least: int | None = None) -> "Pixels":
        """See `image.decode`: upright RGB on white, near sRGB, for detectors. Not to be changed."""
        from limner.vision import image

        if self._pictures is None:
            decoded = image.decode_picture(self.data(ref), self.limits, at_least=at_least)
            self.see_photo(ref, decoded.pixels, alpha=decoded.alpha, profile=decoded.profile)
            return decoded.on_white()
        return self.picture(ref).on_white()

    def see_photo(
        self, ref: ImageRef, pixels: "Pixels", *, alpha: "Pixels | None" = None, profile: bytes | None = None
    ) -> None:
        """What the photo looks like, for the thumbnail. It is known unless the photo was decoded to be changed."""
        if self._thumbnail is not None and ref.sha256 == self._thumbnail.photo_sha256:
            self._thumbnail.see_photo(pixels, alpha, profile)

    def show(
        self,
        pixels: "Pixels",
        *,
        alpha: "Pixels | None" = None,
        profile: bytes | None = None,
        covered: bool = False,
    ) -> None:
        """What an artifact looks like, for the job's thumbnail; `covered`: faces in it are covered.

        Without it, the thumbnail shows the photo.
        """
        if self._thumbnail is not None:
            self._thumbnail.see_made(pixels, alpha, profile, covered=covered)

    def attach(
        self, name: str, data: bytes, media_type: str, *, width: int | None = None, height: int | None = None
    ) -> None:
        """Add an artifact. `name` is the file name that clients see; width and height are pixels, for pictures only."""
        with self.stage("store"):
            self._attach(f"{self._before_names}{name}", data, media_type, width, height)
        self.attached.append(f"{self._before_names}{name}")

    def step(self, number: int, steps: int, preview: "Pixels | None" = None) -> None:
        """Tell that so many of the steps are done, and what the result looks like so far.

        What comes too soon after the last time is dropped. Raises if the job must stop.
        """
        self._check()
        self._tell(number / steps, preview)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a part of the work: its seconds are added to `stages[name]`. Raises if the job must stop."""
        self._check()
        start = time.perf_counter()
        try:
            with step(name):
                yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - start


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
        given = {**values, **{name: _reference(name, data, limits) for name, data in pictures.items()}}
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
