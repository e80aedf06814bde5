"""Validation of params.yaml by section: errors name the unknown key or invalid value and say what is allowed.

The class of each section is next to the code that uses it. This module holds what the sections have in common.
"""

from collections.abc import Iterator, Mapping
from functools import reduce
from math import prod
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from annotated_types import Ge, Le, Len, Lt, MaxLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainValidator,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticKnownError

from ddpm.errors import UserError
from ddpm.registry import Registry
from ddpm.run.root import in_repo
from ddpm.run.yaml import load_yaml

PARAMS = Path("params.yaml")
SEEDS = 2**63  # number of allowed seeds, from 0, which all fit in an int64
MOST_NUMBERS = 256 * 2**20  # in one tensor: 1 GiB in float32
SHOWN = Repr()
SHOWN.maxstring = SHOWN.maxlong = SHOWN.maxother = 80


def check_size(keys: str, *sizes: int) -> None:
    """Check that a tensor is not larger than a machine can be expected to hold.

    Args:
        keys: The params that determine the sizes, for the message.
        sizes: The tensor's shape.

    Raises:
        ValueError: It has more than MOST_NUMBERS numbers.
    """
    if prod(sizes) > MOST_NUMBERS:
        raise ValueError(f"{keys} is {' x '.join(map(str, sizes))}; at most {MOST_NUMBERS} numbers are allowed at once")


def _is_a_path(path: str) -> str:
    if not path or not path.isprintable():
        raise ValueError(f"{path!r} is not a path; use printable characters, or null for none")
    return path


def _can_be_shown(img_shape: list[int]) -> list[int]:
    if img_shape[0] not in (1, 3):
        raise ValueError(f"{img_shape} has {img_shape[0]} channels; a picture has 1 (grey) or 3 (colour)")
    return img_shape


Count = Annotated[int, Ge(1), Le(10_000_000)]
Seconds = Annotated[float, Ge(0), Le(86_400)]
PathName = Annotated[str, MaxLen(4096), AfterValidator(_is_a_path)]
PictureShape = Annotated[list[Annotated[int, Ge(1), Le(256)]], Len(3, 3), AfterValidator(_can_be_shown)]


class Section(BaseModel):
    """A section of params.yaml. Values are not converted, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @property
    def most_processes(self) -> int:
        """The maximum number of processes that can share the stage's work."""
        return 1

    @property
    def files(self) -> list[str]:
        """Files named by the values that the result depends on, as paths from the main repository."""
        return []


class General(Section):
    """The top-level values of params.yaml, outside of any section."""

    seed: Annotated[int, Ge(0), Lt(SEEDS)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    processes: Annotated[int, Ge(1), Le(1024)] | None
    checkpoint_seconds: Seconds


class NoOptions(Section):
    """The options of a registry entry without options."""


class _Subsection(NamedTuple):
    """Options in params.yaml, and the registry that has an entry of that name, if any."""

    registry: Registry[Any] | None
    name: str
    values: Any


def _options(subsection: _Subsection, info: Any) -> Any:
    """The options of an entry: validated with the whole file, otherwise unchanged until they are used."""
    registry, name, values = subsection
    if registry is None:
        raise PydanticKnownError("extra_forbidden")
    return _options_class(registry, name).model_validate(values) if info.context == WHOLE else values


def _names(chosen: Any) -> list[str]:
    """The names in a field that chooses one entry, several or none. Other values are skipped."""
    return [name for name in (chosen if isinstance(chosen, list) else [chosen]) if isinstance(name, str)]


def _options_class(registry: Registry[Any], name: str) -> type[Section]:
    options: type[Section] = getattr(registry[name], "Options", NoOptions)
    return options


class Chooses(Section):
    """A section that chooses registry entries by name and may have a subsection of options for each entry.

    A subsection has the name of its entry. Without one, the entry's defaults apply. When the whole file is validated,
    the options of other entries are checked too, so that one can switch to another entry by changing one value.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, PlainValidator(_options)]]

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of each field that holds the name of an entry, or a list of names."""
        raise TypeError(f"{cls.__name__} must say what it chooses from")

    def options(self, field: str, name: str | None = None) -> Any:
        """The options of a chosen entry.

        Args:
            field: The field that chooses it.
            name: The entry, if the field holds several.

        Raises:
            UserError: They are invalid, and the whole file was not validated before.
        """
        name = name or getattr(self, field)
        values = (self.model_extra or {}).get(name, {})
        if isinstance(values, Section):
            return values
        return validated(_options_class(self.registries()[field], name), values, f"{in_repo(PARAMS)}: {name}")

    def chosen(self) -> Iterator[tuple[str, str]]:
        """A pair (field, entry) for each entry that a field of `registries` chooses."""
        for field in self.registries():
            yield from ((field, name) for name in _names(getattr(self, field)))

    def chosen_modules(self) -> Iterator[str]:
        """The modules of all entries that the section chooses."""
        return (self.registries()[field].module(name) for field, name in self.chosen())

    @model_validator(mode="before")
    @classmethod
    def _subsections(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        registries = cls.registries()
        names = {field: _names(values.get(field)) for field in registries}
        chosen: dict[str, Any] = {name: {} for field in names for name in names[field] if name in registries[field]}
        entries = {name: registry for registry in registries.values() for name in registry}
        return {
            key: value if key in cls.model_fields else _Subsection(entries.get(key), key, value)
            for key, value in {**chosen, **values}.items()
        }

    @model_serializer(mode="wrap")
    def _used(self, serialized: Any) -> dict[str, Any]:
        """The fields, and the options of the entries that are chosen."""
        fields = {key: value for key, value in serialized(self).items() if key in type(self).model_fields}
        options = {name: self.options(field, name).model_dump() for field, name in self.chosen()}
        return fields | {name: values for name, values in options.items() if values}


WHOLE = "whole"  # validation context: everything is validated, not only what is used
Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], values: Any, where: str, context: str | None = None) -> Model:
    """Validate values and return them as a `model`.

    Args:
        model: A section's class, or the class of a whole file.
        values: The contents of a YAML file.
        where: Prefix of each message.
        context: WHOLE to also validate the options of entries that are not chosen.

    Raises:
        UserError: One line for each mistake, with key, value and what is allowed.
    """
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        raise UserError("\n".join(f"{where}: {_describe(mistake)}" for mistake in error.errors())) from None


def load_params(sections: Mapping[str, type[BaseModel]], path: Path = PARAMS, whole: bool = False) -> Any:
    """Read a params file.

    Args:
        sections: The class of each section, by its key, such as "sample.unet".
        path: A YAML file.
        whole: Whether `sections` is complete. If so, other keys are errors, otherwise they are ignored.

    Returns:
        The general values and the sections as attributes: `params.seed`, `params.sample.unet`.

    Raises:
        UserError: The file cannot be read, or has mistakes: one line for each.
    """
    model = params_model(sections, "forbid" if whole else "ignore")
    return validated(model, load_yaml(path), in_repo(path), WHOLE if whole else None)


def section(params: Any, key: str) -> Any:
    """The section `key`, such as "sample.unet", of what `load_params` returned."""
    return reduce(getattr, key.split("."), params)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings with their dotted keys: {"unet": {"lr": 1}} gives ("unet.lr", 1)."""
    for key, value in values.items():
        yield from flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]


def params_model(sections: Mapping[str, type[BaseModel]], extra: str = "forbid") -> type[General]:
    """The class of a whole params file.

    Args:
        sections: The class of each section, by its key.
        extra: What to do with other keys, "forbid" or "ignore".
    """
    return _model(General, sections, extra)


def _model(base: type[Model], sections: Mapping[str, type[BaseModel]], extra: str) -> type[Model]:
    """A class with a field for each section. Sections whose keys share the first part are nested in one field."""
    fields: dict[str, Any] = {}
    for key, model in sections.items():
        head, _, rest = key.partition(".")
        if rest:
            inner = {name.removeprefix(f"{head}."): sections[name] for name in sections if name.startswith(f"{head}.")}
            model = _model(Section, inner, extra)
        fields[head] = (model, ...)
    return create_model("Params", __base__=base, __cls_kwargs__={"extra": extra}, **fields)


def _describe(mistake: Any) -> str:
    names = (str(name) for name in mistake["loc"])
    key = ".".join(name if name.isprintable() and len(name) <= 80 else SHOWN.repr(name) for name in names)
    message = mistake["msg"].removeprefix("Value error, ")
    message = message if len(message) <= 300 else f"{message[:90]}...{message[-200:]}"  # the value may be long
    match mistake["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden" | "invalid_key":
            return f"{key} is not a parameter; check its spelling"
        case "value_error":
            return f"{key}: {message}" if key else message
        case "model_type":
            return f"{key or 'all of it'} is {_shown(mistake['input'])}; it should be a section of keys and values"
        case _:
            return f"{key} is {_shown(mistake['input'])}; {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    """The value's repr, truncated. Python refuses to format very long integers."""
    try:
        return SHOWN.repr(value)
    except ValueError:
        return "a number of thousands of digits"
