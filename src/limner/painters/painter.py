"""What a painter is: it makes a picture from a photo, from words, or from both. `drawn/` is an example.

Painters are listed in `painters/__init__.py`. The web process asks them everything but `paint`, so a module
imports what works on pixels only inside `paint`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import ConfigDict

from limner.choices import WithChoices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limner.vision.faces import Face

    RGB: TypeAlias = NDArray[np.uint8]
    """(H, W, 3) uint8, upright."""
    Mesh: TypeAlias = NDArray[np.float32]
    """(478, 3) points of `vision.mesh`, pixels of the photo."""

Lane: TypeAlias = Literal["paint", "gpu", "remote"]
"""`paint`: on a worker's core, apart from what takes only a moment; `gpu`: one at a time on a device; `remote`:
another server works, this one waits."""


class PainterParams(WithChoices):
    """Base class of a painter's parameters. Each declares `name: Literal["its-name"] = "its-name"`.

    All fields have bounds and, except words without which there is nothing to paint, defaults. No field has the name of
    one of the operation's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str

    def refuse_unused(self) -> None:
        """InvalidRequestError for a field that was given, and would be ignored with the others."""

    def takes_photo(self, *, beside_style: bool) -> bool:
        """Whether it paints from a photo; `beside_style`: if there is a picture whose style is asked for, too."""
        del beside_style
        return True

    def takes_seed(self) -> bool:
        """Whether a seed decides the picture. If not, none is accepted, drawn or told."""
        return True

    def takes_style_photo(self) -> bool:
        """Whether a picture may be sent whose style is asked for (`Canvas.style_photo`)."""
        return False

    def needs_style_photo(self) -> bool:
        """Whether it cannot paint without `Canvas.style_photo`."""
        return False


@dataclass(frozen=True)
class Canvas:
    """What a painter gets. `size`: width and height that are asked for, pixels, None if the painter may choose."""

    photo: "RGB | None"
    """At its full size; not to be changed."""
    size: tuple[int, int] | None
    seed: int
    """0 to 2**32 - 1; the same seed gives the same picture. 0 if the parameters take none."""
    step: "Callable[[int, int, RGB | None], None]"
    """`step(i, n, preview)` after step i of n (1 to n) tells how far the picture is. Call it often, before and after
    what takes long and while waiting: it is where a job stops, by raising, so let its exceptions pass. Previews that
    come too soon are dropped."""
    find_faces: "Callable[[RGB], Sequence[Face]]"
    fit_meshes: "Callable[[RGB, Sequence[Face]], Sequence[Mesh]]"
    style_photo: "RGB | None" = None
    """The picture whose style is asked for, if one was sent."""
    beside_photo: bool = False
    """Whether parts of the photo stay beside it, so that its colours should be no lighter or darker."""
    draft: bool = False
    """A small sample is wanted, quickly: a painter that can does less work for it."""

    @cached_property
    def faces(self) -> "Sequence[Face]":
        """The faces in the photo, pixels of the photo, best score first; none without a photo."""
        return () if self.photo is None else self.find_faces(self.photo)

    @cached_property
    def meshes(self) -> "Sequence[Mesh]":
        """The mesh of each face, in the order of `faces`."""
        return () if self.photo is None or not self.faces else self.fit_meshes(self.photo, self.faces)


class Painter(Protocol):
    """Paints. One instance serves all threads of a process."""

    @property
    def name(self) -> str:
        """As clients write it: small letters, digits and `-`."""
        ...

    @property
    def summary(self) -> str:
        """One sentence for people."""
        ...

    @property
    def licence(self) -> str:
        """SPDX expression of code and weights, or whose terms of use apply to a hosted service."""
        ...

    @property
    def source_type(self) -> Literal["algorithmicallyEnhanced", "trainedAlgorithmicMedia"]:
        """IPTC's DigitalSourceType of what it makes: by plain computing, or by a model trained on pictures.

        What such a model makes from a photo is told as `compositeWithTrainedAlgorithmicMedia`.
        """
        ...

    @property
    def params(self) -> type[PainterParams]:
        """Its parameters."""
        ...

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """What `lane` may answer."""
        ...

    def lane(self, params: Any) -> Lane:
        """Where a job with these parameters runs."""
        ...

    def ready(self) -> str | None:
        """None if it can paint now; else the reason as a sentence that says what to do. Quick: no network."""
        ...

    def fingerprint(self, params: Any) -> str:
        """What, beside parameters, seed and photo, decides the picture: a version of the code, weights, a server."""
        ...

    def estimate(self, params: Any, size: tuple[int, int]) -> int:
        """Bytes of memory of this machine that painting needs at most, beside the photo; `size`: width, height."""
        ...

    def needs(self, params: Any) -> Literal["photo", "nothing"]:
        """Whether it cannot paint without a photo, if it takes one (`PainterParams.takes_photo`)."""
        ...

    def paint(self, canvas: Canvas, params: Any) -> "RGB":
        """The picture. It may have another size than asked for; the operation then scales it.

        LimnerError for what a client should learn; what `canvas.step` raises.
        """
        ...


@runtime_checkable
class WithEntries(Protocol):
    """A painter that uses the operator's entries (`configuration.entry_names`)."""

    def check_entry(self, name: str) -> object:
        """LimnerError if the entry cannot be used now. Quick: no network."""
        ...
