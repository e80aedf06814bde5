"""Named sets of parameters: `python -m ddpm.recipes NAME` prints them as options of `dvc exp run`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ddpm.errors import UserError

FOLDER = Path("recipes")


def load(name: str) -> dict[str, Any]:
    """The values of recipes/NAME.yaml, section by section.

    Raises UserError, listing the recipes there are, for a name that is none.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in names:
        raise UserError(f"{name!r} is not a recipe; there are: {', '.join(names)}")
    return YAML(typ="safe", pure=True).load(FOLDER / f"{name}.yaml")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes` in the place of its own, however deep."""
    deeper = {k: merged(base.get(k, {}), v) if isinstance(v, Mapping) else v for k, v in changes.items()}
    return {**base, **deeper}


def overrides(values: Mapping[str, Any]) -> list[str]:
    """`-S key=value` for every value, in words that need no quoting in a shell."""
    return [word for key, value in _leaves(values) for word in ("-S", f"{key}={_spell(value)}")]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _spell(value: Any) -> str:
    """A value as Hydra's override grammar, which `dvc exp run -S` reads, spells it."""
    if isinstance(value, list):
        return f"[{','.join(map(_spell, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    try:
        print(*overrides(load(sys.argv[1] if len(sys.argv) == 2 else "")))
    except UserError as error:
        sys.exit(f"recipes: {error}")
