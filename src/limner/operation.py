"""What an operation is: a function from parameters and a context to a result, with a name and a version.

From the function's signature come its endpoint, validation, schema, form, cache key and metrics. A new one is one file
in `operations/` and its name in the catalogue there. Read `operations/detect.py` for an example.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from limner.domain.errors import InvalidRequestError
from limner.vision.header import Limits, probe

if TYPE_CHECKING:
    from limner.vision.models import Models  # the web process loads none


class ImageRef(BaseModel):
    """A picture that was sent in and is stored: width and height are those of the upright picture."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    media_type: str
    size: int
    width: int
    height: int

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # What a client sends is the picture itself, not this record of it.
        del core_schema, handler
        return {
            "type": "string",
            "format": "binary",
            "description": "The picture: a file part, or base64 / a data URL in JSON.",
        }


def reference(data: bytes, limits: Limits) -> ImageRef:
    """The record of a picture, from its header. TooLargeError, UnsupportedMediaError, BadImageError."""
    info = probe(data, limits)
    return ImageRef(
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=info.media_type,
        size=len(data),
        width=info.width,
        height=info.height,
    )


def invalid_fields(errors: Sequence[Any]) -> InvalidRequestError:
    """pydantic's errors as one problem: `errors` lists each field and what is wrong with it, never its value."""
    listed = [
        {"field": ".".join(str(part) for part in error["loc"])[:100] or "(body)", "message": error["msg"]}
        for error in errors[:20]
    ]
    return InvalidRequestError(f"{listed[0]['field']}: {listed[0]['message']}", errors=listed)


class Params(BaseModel):
    """Base of all parameters: unknown fields are refused, so that a misspelt one is not ignored in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_in_cache_key: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not change the result, and so are no part of the cache key."""

    image: ImageRef = Field(title="Photo")

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
        """The values that someone means who gave these on the command line; `output`: where files go, if anywhere."""
        del output
        return dict(given)


class SimilarParams(Params):
    """Base of the parameters of an operation that may answer by likeness (`similar_within`)."""

    not_in_cache_key: ClassVar[frozenset[str]] = frozenset({"cache"})

    cache: Annotated[
        Literal["exact", "similar"],
        Field(
            title="Cache",
            description="`similar`: the result of a photo that looks the same may answer, with all else equal",
        ),
    ] = "exact"


class Result(BaseModel):
    """Base of all results."""

    model_config = ConfigDict(frozen=True)

    def summary(self) -> dict[str, int]:
        """What the result comes to in a few numbers, for events and metrics; `faces_count` where it has faces."""
        return {}

    def in_words(self) -> str:
        """One short line for a person at a terminal."""
        return "done"


P = TypeVar("P", bound=Params)
R = TypeVar("R", bound=Result)


class CancelledError(Exception):
    """The job was cancelled, erased or overtaken: stop, nobody waits for it."""


class Context:
    """What an operation may ask of the world while it runs."""

    def __init__(
        self,
        *,
        models: "Models",
        limits: Limits,
        read: Callable[[str], bytes],
        attach: Callable[[str, bytes, str, int | None, int | None], None],
        progress: Callable[[float], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
        recognise: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`read` gives a blob by SHA-256; `check` raises when the job should stop."""
        self.models = models
        self.limits = limits
        self.progress = progress
        self.check_cancelled = check
        self.stages: dict[str, float] = {}
        self.recognise = recognise
        """Takes the photo's perceptual hash, of an operation with `similar_within`, as soon as it is known: the result
        will answer photos that look the same, and one that is there may end the job here."""
        self._read = read
        self._attach = attach

    def data(self, ref: ImageRef) -> bytes:
        """The picture's bytes as they were sent."""
        return self._read(ref.sha256)

    def attach(
        self, name: str, data: bytes, media_type: str, *, width: int | None = None, height: int | None = None
    ) -> None:
        """Add an artifact. `name` is its file name as clients see it; pixels are its size where it has one."""
        with self.stage("store"):
            self._attach(name, data, media_type, width, height)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of the work; seconds add up under `name`. Stops a job that is no longer wanted."""
        self.check_cancelled()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Operation(Generic[P, R]):
    """An operation as the catalogue holds it."""

    name: str
    summary: str
    version: int
    lane: str
    params: type[P]
    result: type[R]
    run: Callable[[P, Context], R]
    models: tuple[str, ...]
    check: Callable[[P], None] | None
    similar_within: int | None

    @cached_property
    def image_fields(self) -> tuple[str, ...]:
        """Names of the parameters that are pictures, `image` first."""
        return tuple(
            name
            for name, field in self.params.model_fields.items()
            if field.annotation is ImageRef or ImageRef in get_args(field.annotation)
        )

    def parse(self, values: Mapping[str, Any], pictures: Mapping[str, bytes], limits: Limits) -> P:
        """Parameters from plain values and the pictures' bytes, of which only the headers are read, and `check`.

        InvalidRequestError lists the wrong fields; TooLargeError, UnsupportedMediaError, BadImageError for a picture.
        """
        given = {**values, **{name: reference(data, limits) for name, data in pictures.items()}}
        if "image" not in given:
            raise InvalidRequestError("image: a picture is needed: a file part, base64 or image_url", field="image")
        try:
            params = self.params.model_validate(given)
        except ValidationError as error:
            raise invalid_fields(error.errors(include_input=False, include_url=False, include_context=False)) from None
        if self.check is not None:
            self.check(params)
        return params

    def cache_key(self, params: P, fingerprint: str) -> str:
        """Equal exactly when the same work would be done: operation, version, models, pictures, parameters."""
        return self._key(params, fingerprint, [])

    def similarity_key(self, params: P, fingerprint: str) -> str | None:
        """The same for all but the photo's content: equal when a photo that looks the same may answer."""
        if self.similar_within is None:
            return None
        return self._key(params, fingerprint, [params.image.width, params.image.height])

    def _key(self, params: P, fingerprint: str, size: list[int]) -> str:
        left_out = set(self.params.not_in_cache_key) | ({"image"} if size else set())
        work = [self.name, self.version, fingerprint, size, params.model_dump(mode="json", exclude=left_out)]
        return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def operation(
    *,
    version: int,
    lane: str = "cpu",
    models: tuple[str, ...] = (),
    check: Callable[[P], None] | None = None,
    similar_within: int | None = None,
) -> Callable[[Callable[[P, Context], R]], Operation[P, R]]:
    """Make a function `(params, ctx) -> result` an operation. The docstring's first line is its summary.

    Raise `version` whenever the same input gives another result; `models` names the weights that it uses. `check`
    sees the parameters when the job is submitted, and raises for what could only fail: the client hears it at once.
    With `similar_within` a request may ask for the result of a photo whose perceptual hash differs in so many bits at
    most; its parameters are `SimilarParams`, and it calls `Context.recognise`.
    """

    def declare(run: Callable[[P, Context], R]) -> Operation[P, R]:
        hints: dict[str, Any] = get_type_hints(run)
        return Operation(
            name=run.__name__,
            summary=(run.__doc__ or "").strip().splitlines()[0],
            version=version,
            lane=lane,
            params=hints["params"],
            result=hints["return"],
            run=run,
            models=models,
            check=check,
            similar_within=similar_within,
        )

    return declare
