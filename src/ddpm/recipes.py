"""Named sets of parameters: `python -m ddpm.recipes NAME` prints them as options of `dvc exp run`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm.errors import UserError
from ddpm.run.params import flatten
from ddpm.run.yaml import load_yaml

FOLDER = Path("recipes")


def load(name: str) -> dict[str, Any]:
    """Read recipes/NAME.yaml.

    Args:
        name: The name of the recipe.

    Returns:
        Its values by section.

    Raises:
        UserError: There is no such recipe. The message lists the existing ones.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in names:
        raise UserError(f"{name!r} is not a recipe; there are: {', '.join(names)}")
    values: dict[str, Any] = load_yaml(FOLDER / f"{name}.yaml")
    return values


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base`, recursively updated with `changes`."""
    deeper = {k: merged(base.get(k, {}), v) if isinstance(v, Mapping) else v for k, v in changes.items()}
    return {**base, **deeper}


def overrides(values: Mapping[str, Any]) -> list[str]:
    """`-S key=value` for every value, without characters that a shell would need quotes for."""
    return [word for key, value in flatten(values) for word in ("-S", f"{key}={_spell(value)}")]


def _spell(value: Any) -> str:
    """A value in Hydra's override grammar, which `dvc exp run -S` reads."""
    if isinstance(value, list):
        return f"[{','.join(map(_spell, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    try:
        print(*overrides(load(sys.argv[1] if len(sys.argv) == 2 else "")))
    except UserError as error:
        print(
            "--no-such-recipe"
        )  # not an option of dvc, so that `dvc exp run $(python -m ddpm.recipes NAME)` runs nothing
        sys.exit(f"recipes: {error}")
