"""Parameters that depend on a choice, such as a painter with its own fields.

Inside, such a field is one of several models, told apart by a name. Clients send it flat: the name as its value, and
the model's own fields beside it (`painter=drawn`, `style=ink`, `detail=0.7`). An object is understood too.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Schema = dict[str, Any]

UNKNOWN = "unknown_choice"
"""Type of the error for a name that no model has."""


class Choice:
    """Marks a field of a `WithChoices` (in `Annotated`). `tag` is the field of all `models` that holds their name.

    The default of the field, one of the models, is what is chosen if the name is not sent. It also marks the members of
    a list, which are sent as objects that have the name among their fields.
    """

    def __init__(self, tag: str, models: Mapping[str, type[BaseModel]]) -> None:
        self.tag = tag
        self.models = dict(models)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source
        return core_schema.tagged_union_schema(
            {name: handler.generate_schema(model) for name, model in self.models.items()},
            discriminator=self.tag,
            custom_error_type=UNKNOWN,
            custom_error_message=f"The value must be one of: {', '.join(self.models)}",
        )


class NullIsAbsent(BaseModel):
    """Base class of models whose fields are as good as not given if they are null.

    Clients in typed languages send all fields that they know of. Also where the field is that of another choice.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return _without_nulls(cls, given) if isinstance(given, Mapping) else given


class WithChoices(NullIsAbsent):
    """Base class of models with fields marked as `Choice`."""

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, given: Any) -> Any:
        """Put what was sent beside the name into the chosen model."""
        if not isinstance(given, Mapping):
            return given
        values = _without_nulls(cls, given)
        for field, choice in choices(cls).items():
            chosen = values.get(field)
            if chosen is None or isinstance(chosen, str):
                # the tag is not a field of its own: as one it would choose another model than `field` says
                own = {name: values.pop(name) for name in list(values) if name not in (*cls.model_fields, choice.tag)}
                values.pop(field, None)
                if chosen is not None or own:
                    values[field] = {choice.tag: chosen if chosen is not None else _default(cls, field), **own}
            elif isinstance(chosen, Mapping):
                values[field] = {choice.tag: _default(cls, field), **chosen}
        return values

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The flat form. `properties` has all fields; `oneOf` says which of them go together."""
        described = handler.resolve_ref_schema(handler(core))
        described.update(_flat(cls, described, handler))
        return described


def _without_nulls(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None or name not in _names(model)}


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, _ in flat_fields(model))


def _flat(model: type[BaseModel], described: Schema, handler: GetJsonSchemaHandler) -> Schema:
    """The JSON Schema of a model in its flat form."""
    if "oneOf" in described:
        return described
    described = {**described, "properties": dict(described["properties"])}
    for field, choice in choices(model).items():
        models = {
            name: _flat(each, handler.resolve_ref_schema(handler(each.__pydantic_core_schema__)), handler)
            for name, each in choice.models.items()
        }
        _flatten(described, field, choice.tag, _default(model, field), models)
    return described


def _flatten(described: Schema, field: str, tag: str, default: str, models: Mapping[str, Schema]) -> None:
    """Change the JSON Schema of a model in place: `field`, one of `models`, becomes the fields of all of them."""
    properties = described["properties"]
    held = properties[field]
    shown = {key: held[key] for key in ("title", "description") if key in held}
    outer = [each for each in properties if each != field]
    leaves: list[Schema] = []
    inner: list[tuple[str, Schema]] = []
    for name, model in models.items():
        inner += [(key, each) for key, each in model["properties"].items() if key != tag]
        for leaf in model.get("oneOf", [model]):
            own = {key: each for key, each in leaf["properties"].items() if key != tag}
            needed = [key for key in leaf.get("required", ()) if key != tag]
            leaves.append(
                {
                    "title": name if leaf is model else f"{name}, {leaf['title']}",
                    "description": leaf.get("description", ""),
                    "type": "object",
                    "properties": {**dict.fromkeys(outer, True), field: {"const": name}, **own},
                    "required": [*([] if name == default else [field]), *needed],
                    "additionalProperties": False,
                }
            )
    choice = {**shown, "type": "string", "enum": list(models), "default": default}
    before = list(properties)[: list(properties).index(field)]
    described["properties"] = {
        **{each: properties[each] for each in before},
        field: choice,
        **_merged(inner),
        **{each: properties[each] for each in outer if each not in before},
    }
    described["required"] = [name for name in described.get("required", ()) if name != field]
    described["oneOf"] = leaves


def _merged(fields: Sequence[tuple[str, Schema]]) -> Schema:
    """The fields by name. What several models have under one name is any of theirs, or all their values or ranges."""
    found: dict[str, list[Schema]] = {}
    for name, schema in fields:
        if schema not in found.setdefault(name, []):
            found[name].append(schema)
    return {name: several[0] if len(several) == 1 else _any_of(several) for name, several in found.items()}


def _any_of(several: Sequence[Schema]) -> Schema:
    first = several[0]
    if all(set(each) == set(first) >= {"minimum", "maximum"} and each["type"] == first["type"] for each in several):
        low, high = min(each["minimum"] for each in several), max(each["maximum"] for each in several)
        return {**first, "minimum": low, "maximum": high}
    if all("enum" in each for each in several):
        return {**first, "enum": list(dict.fromkeys(value for each in several for value in each["enum"]))}
    options = [option for each in several for option in each.get("anyOf", [each])]
    distinct = [option for number, option in enumerate(options) if option not in options[:number]]
    return {**{key: first[key] for key in ("title", "description", "default") if key in first}, "anyOf": distinct}


def choices(model: type[BaseModel]) -> dict[str, Choice]:
    """The fields of a model that are a choice."""
    return {
        name: each for name, info in model.model_fields.items() for each in info.metadata if isinstance(each, Choice)
    }


def lists(model: type[BaseModel]) -> dict[str, Choice]:
    """The fields of a model that are lists of a choice."""
    return {
        name: each
        for name, info in model.model_fields.items()
        for member in get_args(info.annotation)
        for each in getattr(member, "__metadata__", ())
        if isinstance(each, Choice)
    }


def flat_place(model: type[BaseModel], place: Sequence[int | str], *, of_name: bool = False) -> tuple[int | str, ...]:
    """The place of an error (`loc` of pydantic) as a client knows it; `of_name`: the error's type is `UNKNOWN`."""
    if len(place) > 1 and (listed := lists(model).get(str(place[0]))) is not None:
        field, number, *rest = place
        if not rest:
            return (field, number, listed.tag) if of_name else (field, number)
        return (field, number, *flat_place(listed.models[str(rest[0])], rest[1:], of_name=of_name))
    while len(place) > 1 and (choice := choices(model).get(str(place[0]))) is not None:
        field, chosen, *rest = place
        model = choice.models[str(chosen)]
        place = rest or [field]
    return tuple(place)


def flat_fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """All fields as a client knows them. A name that several models have comes several times."""
    found = choices(model)
    for name, field in model.model_fields.items():
        yield name, field
        if name in found:
            for chosen in found[name].models.values():
                yield from (each for each in flat_fields(chosen) if each[0] != found[name].tag)


def flat_values(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are stored, in the form in which clients send them. Unknown fields and values stay as they are."""
    flat: dict[str, Any] = {}
    found, listed = choices(model), lists(model)
    for name, value in values.items():
        if name in listed and isinstance(value, list):
            flat[name] = [_flat_member(listed[name], each) for each in value]
            continue
        choice = found.get(name)
        chosen = value.get(choice.tag) if choice is not None and isinstance(value, Mapping) else None
        if choice is None or chosen not in choice.models:
            flat[name] = value
            continue
        own = flat_values(choice.models[chosen], value)
        flat[name] = own.pop(choice.tag)
        flat |= own
    return flat


def _flat_member(choice: Choice, value: Any) -> Any:
    chosen = value.get(choice.tag) if isinstance(value, Mapping) else None
    if chosen not in choice.models:
        return value
    own = flat_values(choice.models[chosen], value)
    return {name: each for name, each in own.items() if each is not None}


def kept_values(model: type[BaseModel], flat: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Flat values without the fields that belong to a choice which `changes` replaces: another one has its own."""
    kept = dict(flat)
    for name, choice in choices(model).items():
        chosen = choice.models.get(str(flat.get(name)))
        if chosen is None:
            continue
        if name not in changes or changes[name] == flat[name]:
            kept = kept_values(chosen, kept, changes)
            continue
        for field, _ in flat_fields(chosen):
            kept.pop(field, None)
    return kept


def _default(model: type[BaseModel], field: str) -> str:
    chosen = model.model_fields[field].get_default(call_default_factory=True)
    return str(getattr(chosen, choices(model)[field].tag))
