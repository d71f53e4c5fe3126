"""The operation `pipeline`: several of the other operations on one photo, as one job.

It is made of the operations that it is given. A step has its operation's own parameters, and a name.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.json_schema import SkipJsonSchema

from limner.choices import Choice, lists
from limner.context import Context
from limner.domain.errors import LimnerError
from limner.domain.formats import must_be
from limner.domain.lane import CPU, GPU, PAINT, REMOTE
from limner.geometry import SizeShape
from limner.image_ref import ImageRef
from limner.operation import Choices, Operation, PhotoParams, Result, invalid_fields, operation

VERSION = 1
MAX_STEPS = 8
# A step that needs a device can only run beside it. One that waits for another server would hold up a core meanwhile.
_LANES = (CPU, PAINT, REMOTE, GPU)

_AnyOperation = Operation[Any, Any]
_Known = Mapping[str, _AnyOperation]
_StepName = Annotated[
    str,
    Field(
        pattern="^[a-z0-9][a-z0-9_-]*$",
        max_length=32,
        title="Name",
        description="Names the step's result, and its files: `<name>.<file>`",
    ),
    must_be("A name must have 1 to 32 of a-z, 0-9, `_` and `-`, and begin with a letter or a digit."),
]
_NoPicture = SkipJsonSchema[None]  # the request has the photo
_NoChoice = SkipJsonSchema[Literal["exact"]]  # only whole results are in the cache


def _only(name: str) -> Any:
    """The type of a text that is always this one."""
    return Literal.__getitem__(name)  # `Literal[name]` would be the text "name" for mypy


class _Params(PhotoParams):
    steps: list[Any]

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any], output: Path | None) -> dict[str, Any]:
        """Adapt each step as its operation does."""
        models = lists(cls)["steps"].models
        default = cls.model_fields["steps"].get_default(call_default_factory=True)
        steps = given.get("steps", [{"operation": each.operation} for each in default])
        if not isinstance(steps, list):
            return dict(given)
        adapted = [
            models[step["operation"]].from_command_line(step, output)  # type: ignore[attr-defined]  # they are `Params`
            if isinstance(step, dict) and step.get("operation") in tuple(models)
            else step
            for step in steps
        ]
        return {**given, "steps": adapted}

    def work(self) -> dict[str, Any]:
        return {**super().work(), "steps": [step.work() for step in self.steps]}


class _Result(Result):
    is_its_files: ClassVar[bool] = True

    image: SizeShape
    steps: dict[str, Any]

    def summary(self) -> dict[str, int]:
        """Each number is the largest of the steps' numbers of this name."""
        found: dict[str, int] = {}
        for step in self.steps.values():
            for name, number in step.result.summary().items():
                found[name] = max(number, found.get(name, 0))
        return found

    def in_words(self) -> str:
        """What each step says."""
        return "; ".join(f"{name}: {step.result.in_words()}" for name, step in self.steps.items())


def pipeline(operations: Sequence[_AnyOperation], *, default: Sequence[_AnyOperation]) -> _AnyOperation:
    """Run several operations on one photo, as one job."""
    known = {each.name: each for each in operations}
    params_type, result_type = _params(operations, default), _result(operations)

    @operation(
        version=VERSION,
        lanes=tuple(dict.fromkeys(lane for each in operations for lane in each.lanes)),
        models=tuple(dict.fromkeys(model for each in operations for model in each.models)),
        check=partial(_check, known),
        choices=Choices(
            lane=lambda params: max((known[each.operation].lane(each) for each in params.steps), key=_LANES.index),
            fingerprint=lambda params: "\n".join(_fingerprint(known[each.operation], each) for each in params.steps),
            settle=partial(_settled, known),
            covers=lambda params: any(known[each.operation].covers(each) for each in params.steps),
            fresh=lambda params: any(known[each.operation].choices.fresh(each) for each in params.steps),
            ready_lanes=lambda: tuple(dict.fromkeys(lane for each in operations for lane in each.ready_lanes())),
        ),
    )
    def pipeline(params: params_type, ctx: Context) -> result_type:  # type: ignore[valid-type]  # made here
        """Run several operations on one photo, as one job."""
        return result_type.model_validate(_run(known, params, ctx))

    return pipeline


# --- parameters and result, made of those of the operations ----------------------------------------------------------


def _params(operations: Sequence[_AnyOperation], default: Sequence[_AnyOperation]) -> type[_Params]:
    steps = {each.name: _step(each) for each in operations}
    members = list[Annotated[Any, Choice("operation", steps)]]
    pictures: dict[str, Any] = {
        name: (
            ImageRef | None,
            Field(None, title=info.title, description=f"For the steps with `{name}: true`. {info.description}"),
        )
        for each in operations
        for name, info in each.params.model_fields.items()
        if name in each.image_fields[1:]
    }
    return create_model(
        "PipelineParams",
        __base__=_Params,
        __doc__="Parameters of `pipeline`.",
        **pictures,
        steps=(
            members,
            Field(
                default_factory=lambda: [steps[each.name].model_validate({"operation": each.name}) for each in default],
                json_schema_extra={"default": [{"operation": each.name} for each in default]},
                min_length=1,
                max_length=MAX_STEPS,
                title="Steps",
                description="Each an operation with its parameters, such as "
                '{"operation": "detect", "mark": "blur"}, and a `name` if the operation comes twice',
            ),
        ),
    )


def _step(given: _AnyOperation) -> type[BaseModel]:
    """The operation's parameters, with its name beside them and without its pictures, which the request has."""
    own: dict[str, Any] = {
        "operation": (_only(given.name), Field(title="Operation")),
        "name": (_StepName, given.name),
        "image": (_NoPicture, None),
    }
    for name in given.image_fields[1:]:
        described = f"Whether the step gets the picture `{name}` of the request"
        own[name] = (bool, Field(False, title=given.params.model_fields[name].title, description=described))
    if given.similar_within is not None:
        own["cache"] = (_NoChoice, "exact")
    doc = f"The operation `{given.name}` as a step."
    return create_model(f"{given.name.title()}Step", __base__=given.params, __doc__=doc, **own)


def _result(operations: Sequence[_AnyOperation]) -> type[_Result]:
    steps = {each.name: _step_result(each) for each in operations}
    of_steps = dict[_StepName, Annotated[Any, Choice("operation", steps)]]
    return create_model(
        "PipelineResult",
        __base__=_Result,
        __doc__="Result of `pipeline`.",
        steps=(of_steps, Field(description="By the names of the steps")),
    )


def _step_result(given: _AnyOperation) -> type[BaseModel]:
    own: dict[str, Any] = {
        "operation": (_only(given.name), ...),
        "artifacts": (list[str], Field(description="Names of the step's artifacts among those of the job")),
        "result": (given.result, ...),
    }
    return create_model(
        f"{given.name.title()}StepResult",
        __config__=ConfigDict(frozen=True),
        __doc__=f"What the operation `{given.name}` made as a step.",
        **own,
    )


# --- running ---------------------------------------------------------------------------------------------------------


def _run(known: _Known, params: Any, ctx: Context) -> dict[str, Any]:
    """The result, as its model takes it."""
    done: dict[str, Any] = {}
    for number, step in enumerate(params.steps):
        given = known[step.operation]
        if number > 0:
            ctx.step(number, len(params.steps))
        part = ctx.of_step(step.name, number, len(params.steps))
        with _placing_errors(step, number):
            own = given.run(_with_pictures(params, step, given), part)
        done[step.name] = {"operation": given.name, "artifacts": part.attached, "result": own}
    size = SizeShape(width=params.image.width, height=params.image.height)
    return {"image": size, "steps": done}


def _check(known: _Known, params: Any) -> None:
    """Check names and pictures, then what each operation checks. InvalidRequestError and what these raise."""
    names: set[str] = set()
    taken: set[str] = set()
    for number, step in enumerate(params.steps):
        if step.name in names:
            message = f"Another step is named {step.name}: give this one a name of its own"
            raise invalid_fields([{"loc": ("steps", number, "name"), "msg": message}])
        names.add(step.name)
        given = known[step.operation]
        for name in given.image_fields[1:]:
            if getattr(step, name):
                taken.add(name)
                if getattr(params, name) is None:
                    raise invalid_fields([{"loc": ("steps", number, name), "msg": "The request has no such picture"}])
        with _placing_errors(step, number):
            if given.check is not None:
                given.check(_with_pictures(params, step, given))
    for name in type(params).model_fields:
        if isinstance(getattr(params, name), ImageRef) and name not in ("image", *taken):
            raise invalid_fields([{"loc": (name,), "msg": "No step takes this picture"}])


def _settled(known: _Known, params: _Params, request: str) -> _Params:
    """Each step is settled in its own way: two pictures of one job have two seeds."""
    steps = [known[each.operation].settled(each, f"{request} {each.name}") for each in params.steps]
    return params.model_copy(update={"steps": steps})


def _with_pictures(params: Any, step: Any, given: _AnyOperation) -> Any:
    """The parameters of the step's operation: the step, with the pictures of the request."""
    further = {name: getattr(params, name) if getattr(step, name) else None for name in given.image_fields[1:]}
    return step.model_copy(update={"image": params.image, **further})


def _fingerprint(given: _AnyOperation, step: Any) -> str:
    return f"{given.name} {given.version} {given.choices.fingerprint(step)}"


@contextmanager
def _placing_errors(step: Any, number: int) -> Iterator[None]:
    """An error tells the step, and its fields as the request has them."""
    try:
        yield
    except LimnerError as error:
        place, named = f"steps.{number}.", False
        for each in (error.extra, *_listed(error)):
            if "field" in each:
                each["field"], named = f"{place}{each['field']}", True
        error.detail = f"{place if named else f'{step.name}: '}{error.detail}"
        error.args = (error.detail,)
        error.extra["step"] = step.name
        raise


def _listed(error: LimnerError) -> list[dict[str, object]]:
    errors = error.extra.get("errors", [])
    assert isinstance(errors, list)
    return errors
