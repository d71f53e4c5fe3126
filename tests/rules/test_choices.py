"""Parameters that depend on a choice: sent flat, kept nested, described as they are sent."""

from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.choices import UNKNOWN, Choice, WithChoices, flat_fields, flat_place, flat_values, lists

STRICT = ConfigDict(frozen=True, extra="forbid")


class Style(BaseModel):
    model_config = STRICT


class Ink(Style):
    style: Literal["ink"] = "ink"
    detail: float = Field(0.5, ge=0, le=1)
    brush: float = Field(1, ge=0, le=1)


class Oil(Style):
    style: Literal["oil"] = "oil"
    brush: float = Field(1, ge=0.5, le=2)


class Drawn(WithChoices):
    model_config = STRICT
    name: Literal["drawn"] = "drawn"
    style: Annotated[Style, Choice("style", {"ink": Ink, "oil": Oil}), Field(title="Style")] = Ink()


class Model(WithChoices):
    model_config = STRICT
    name: Literal["model"] = "model"
    file: str = Field(max_length=5)


class Given(WithChoices):
    model_config = STRICT
    seed: int | None = None
    painter: Annotated[Any, Choice("name", {"drawn": Drawn, "model": Model}), Field(title="Painter")] = Drawn()


RIGHT: list[dict[str, Any]] = [
    {},
    {"style": "oil"},
    {"style": "oil", "brush": 2},
    {"style": "ink", "detail": 0.25, "seed": 3},
    {"detail": 0.25},
    {"painter": "drawn", "style": "oil"},
    {"painter": "model", "file": "a", "seed": 1},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"other": 1}, "other"),
    ({"name": "drawn"}, "name"),
    ({"painter": "drawn", "name": "model"}, "name"),
    ({"style": "oil", "detail": 0.25}, "detail"),
    ({"style": "ink", "brush": 2}, "brush"),
    ({"style": "none"}, "style"),
    ({"painter": "none"}, "painter"),
    ({"painter": ""}, "painter"),
    ({"painter": 3}, "painter"),
    ({"painter": "model"}, "file"),
    ({"painter": "model", "file": "a", "style": "ink"}, "style"),
]
OBJECTS: list[dict[str, Any]] = [
    {"painter": {"name": "drawn", "style": "oil", "brush": 2}},
    {"painter": {"style": {"style": "oil", "brush": 2}}},
    {"painter": "drawn", "style": {"style": "oil", "brush": 2}},
]
SCHEMA = jsonschema_rs.validator_for(Given.model_json_schema())


@pytest.mark.parametrize("values", RIGHT)
def test_what_is_sent_flat_comes_back_as_it_was_stored(values: dict[str, Any]) -> None:
    read = Given(**values)
    assert Given.model_validate(read.model_dump(mode="json")) == read
    assert SCHEMA.is_valid(values)


@pytest.mark.parametrize("values", OBJECTS)
def test_an_object_says_the_same(values: dict[str, Any]) -> None:
    assert Given(**values) == Given(style="oil", brush=2)


@pytest.mark.parametrize(("values", "place"), WRONG)
def test_what_does_not_go_together_is_named(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Given(**values)
    assert flat_place(Given, refused.value.errors()[0]["loc"]) == (place,)
    assert not SCHEMA.is_valid(values)


def test_all_fields_are_listed() -> None:
    assert [name for name, _ in flat_fields(Given)] == ["seed", "painter", "style", "detail", "brush", "brush", "file"]
    assert set(Given.model_json_schema()["properties"]) == {"seed", "painter", "style", "detail", "brush", "file"}


class Several(BaseModel):
    model_config = STRICT
    seed: int = 1
    members: list[Annotated[Any, Choice("name", {"drawn": Drawn, "model": Model})]]


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ({"name": "none"}, ("name",)),
        (3, ()),
        ({"name": "model"}, ("file",)),
        ({"name": "drawn", "style": "none"}, ("style",)),
        ({"name": "drawn", "style": "oil", "detail": 0.5}, ("detail",)),
    ],
)
def test_a_wrong_member_of_a_list_is_named(member: Any, place: tuple[str, ...]) -> None:
    assert list(lists(Several)) == ["members"]
    with pytest.raises(ValidationError) as refused:
        Several.model_validate({"members": [{"name": "drawn"}, member]})
    (error,) = refused.value.errors()
    assert flat_place(Several, error["loc"], of_name=error["type"] == UNKNOWN) == ("members", 1, *place)
    assert not jsonschema_rs.validator_for(Several.model_json_schema()).is_valid({"members": [member]})


@pytest.mark.parametrize("sent", RIGHT)
def test_stored_values_can_be_sent_again(sent: dict[str, Any]) -> None:
    given = Given.model_validate(sent)
    flat = flat_values(Given, given.model_dump(mode="json"))
    assert sent.items() <= flat.items()
    assert not any(isinstance(value, dict) for value in flat.values())
    assert Given.model_validate(flat) == given


def test_stored_values_of_another_version_stay_as_they_are() -> None:
    stored = {"seed": 1, "gone": 2, "painter": {"name": "retired", "size": 3}}
    assert flat_values(Given, stored) == stored
    assert flat_values(Given, {"painter": "text"}) == {"painter": "text"}
