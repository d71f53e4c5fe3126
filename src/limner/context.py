"""What an operation works with while it runs. Read `Context`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limner.image_ref import ImageRef
from limner.tracing import step
from limner.vision.header import Limits

if TYPE_CHECKING:  # not at run time: the web process loads no models
    from limner.vision.image import Picture, Pixels
    from limner.vision.models import Models
    from limner.vision.thumbnail import Thumbnail


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
