"""Named sets of parameters: `python -m ddpm.recipes NAME` prints them as options of `dvc exp run`."""

import sys
from collections.abc import Mapping, Sequence
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
        UserError: There is no such recipe, or it holds no sections. The message lists the existing ones.
    """
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if not names:
        raise UserError(f"there is no {FOLDER}/*.yaml here; run it at the top of the repository")
    if name not in names:
        raise UserError(f"{name!r} is not a recipe; available: {', '.join(names)}")
    values: dict[str, Any] = load_yaml(path := FOLDER / f"{name}.yaml")
    if not isinstance(values, dict) or not _keys_are_words(values):
        raise UserError(f"{path}: a recipe is sections of keys and values, as in params.yaml")
    return values


def _keys_are_words(values: Mapping[Any, Any]) -> bool:
    return all(
        isinstance(key, str) and (not isinstance(value, Mapping) or _keys_are_words(value))
        for key, value in values.items()
    )


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


def main(words: Sequence[str]) -> None:
    """Print the recipe as options of `dvc exp run`."""
    try:
        print(*overrides(load(" ".join(words))), flush=True)
    except UserError as error:
        # Not an option of dvc, so that `dvc exp run $(python -m ddpm.recipes NAME)` runs nothing.
        print("--no-such-recipe")
        sys.exit(f"recipes: {error}")
    except OSError as error:  # stdout is closed, or its disk is full
        sys.stdout = None  # or Python would try again as it ends
        sys.exit(f"recipes: stdout: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
