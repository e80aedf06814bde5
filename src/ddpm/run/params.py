"""params.yaml, section by section: an unknown key or a bad value is an error that names it and says what is allowed.

A section's class stands beside the code that it steers; what sections have in common stands here.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from math import prod
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Le, Len, Lt, MaxLen
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model, model_validator

from ddpm.errors import UserError
from ddpm.registry import Registry
from ddpm.run.yaml import load_yaml

PARAMS = Path("params.yaml")
MOST_NUMBERS = 2**28  # in one tensor, 1 GiB in float32; what a machine has beyond that shows when it runs
SHOWN = Repr()
SHOWN.maxstring = SHOWN.maxlong = SHOWN.maxother = 80


def check_size(keys: str, *sizes: int) -> None:
    """Raise ValueError if a tensor of `sizes`, which come from `keys`, has more than MOST_NUMBERS numbers."""
    if prod(sizes) > MOST_NUMBERS:
        raise ValueError(f"{keys} is {' x '.join(map(str, sizes))}; at most {MOST_NUMBERS} numbers are allowed at once")


def _is_a_path(path: str) -> str:
    if not path or not path.isprintable():
        raise ValueError(f"{path!r} is no path; give printable characters, or null for none")
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
    """Values as they stand in the file: nothing is converted, nothing may be added."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class General(Section):
    """What every stage that computes reads."""

    seed: Annotated[int, Ge(0), Lt(2**63)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Annotated[int, Ge(1), Le(1024)]
    checkpoint_seconds: Seconds


class Chooses(Section):
    """A section that chooses registry entries by name, with a subsection of options for each entry that has some.

    A subsection is named as the entry. It may be left out: then the entry's own defaults hold. Options of entries that
    are not chosen are checked too, so that choosing one is changing one value.
    """

    model_config = ConfigDict(extra="allow")

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of each field that holds a name, or a list of names. An entry's options are its `Options`."""
        raise TypeError(f"{cls.__name__} must say which registries it chooses from")

    @model_validator(mode="before")
    @classmethod
    def _options_are_valid(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        known = {name: registry for registry in cls.registries().values() for name in registry}
        checked = dict(values)
        for key in values.keys() - cls.model_fields.keys():
            if key not in known:
                raise ValueError(f"{key} is not a parameter; check its spelling")
            checked[key] = options(known[key], key, values[key])
        return checked

    def options(self, field: str, name: str | None = None) -> Any:
        """The options of the entry that `field` chooses, or of its entry `name`; defaults if there is no subsection."""
        registry, chosen = self.registries()[field], name or getattr(self, field)
        found = (self.model_extra or {}).get(chosen)
        return options(registry, chosen, {}) if found is None else found

    def chosen_modules(self) -> Iterable[str]:
        """The modules of all entries that the section chooses."""
        for field, registry in self.registries().items():
            names = getattr(self, field)
            for name in [names] if isinstance(names, str) else registry if names is None else names:
                yield registry.module(name)


def options(registry: Registry[Any], name: str, values: Any) -> Any:
    """`values` as the `Options` of a registry's entry; ValueError, with the entry's name, if they do not fit."""
    model = getattr(registry[name], "Options", NoOptions)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(f"{name}.{_describe(mistake)}" for mistake in error.errors())) from None


class NoOptions(Section):
    """The options of an entry that has none."""


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], values: Any, where: str) -> Model:
    """`values` as a `model`.

    Raises:
        UserError: One line for each mistake, starting with `where` and naming key, value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(f"{where}: {_describe(mistake)}" for mistake in error.errors())) from None


def params_model(sections: Mapping[str, type[BaseModel]]) -> type[General]:
    """The class of a whole params file: the general values, and `sections` by key, such as "sample.unet"."""
    fields: dict[str, Any] = {}
    for key, section in sections.items():
        head, _, rest = key.partition(".")
        if rest:
            inner = {name.partition(".")[2]: (sections[name], ...) for name in sections if name.startswith(f"{head}.")}
            fields[head] = (create_model(head, __base__=Section, **inner), ...)  # type: ignore[call-overload]
        else:
            fields[head] = (section, ...)
    return create_model("Params", __base__=General, **fields)


def load_params(sections: Mapping[str, type[BaseModel]], path: Path = PARAMS, whole: bool = False) -> Any:
    """The general values and `sections` of a params file, as attributes.

    Args:
        sections: The class of each section, by key.
        whole: Whether keys beside these are mistakes; else they are ignored.

    Raises:
        UserError: The file cannot be read, or one line for each mistake.
    """
    values = load_yaml(path)
    if not whole and isinstance(values, Mapping):
        heads = {key.partition(".")[0] for key in sections}
        values = {key: _only(value, sections, f"{key}.") for key, value in values.items() if key in heads} | {
            key: value for key, value in values.items() if key in General.model_fields
        }
    return validated(params_model(sections), values, str(path))


def section(params: Any, key: str) -> Any:
    """The section `key`, such as "sample.unet", of what `load_params` gave."""
    return reduce(getattr, key.split("."), params)


def _only(values: Any, sections: Iterable[str], prefix: str) -> Any:
    """Of a section that holds sections, those that are asked for."""
    inner = {key.removeprefix(prefix) for key in sections if key.startswith(prefix)}
    return {k: v for k, v in values.items() if k in inner} if inner and isinstance(values, Mapping) else values


def _describe(mistake: Any) -> str:
    names = (str(name) for name in mistake["loc"])
    key = ".".join(name if name.isprintable() and len(name) <= 80 else SHOWN.repr(name) for name in names)
    message = mistake["msg"].removeprefix("Value error, ")
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
    """Its repr, shortened; Python refuses to spell the longest integers out."""
    try:
        return SHOWN.repr(value)
    except ValueError:
        return "a number of thousands of digits"
