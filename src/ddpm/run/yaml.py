"""YAML files as DVC reads them: PyYAML with the scalars of YAML 1.2, and without silently dropped keys."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ddpm.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, where 1e-3 is a string, `on` a boolean and 1:30 the number 90."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.value[i][0].start_mark
                )
        return super().construct_mapping(node, deep=deep)


# The core schema of YAML 1.2.2, section 10.3.2.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})$"), _first)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf")
                 .replace(".nan", "nan").replace(".NaN", "nan").replace(".NAN", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def load_yaml(path: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        UserError: The file cannot be read, is not valid YAML, or has a key that stands twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506, a SafeLoader
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    # PyYAML lets errors of Python through: 5000 digits, !!bool x, [[[[...
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def dump_yaml(values: Any) -> str:
    """`values` as YAML text, keys in their own order."""
    return yaml.safe_dump(values, sort_keys=False, width=120, allow_unicode=True)
