"""YAML as DVC reads it: PyYAML with the scalars of YAML 1.2, and without duplicate keys."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ddpm.errors import UserError

# In YAML 1.1, which PyYAML follows, 1e-3 is a string, `on` a boolean and 1:30 the number 90.
SCALARS = {
    "bool": ("tTfF", r"true|True|TRUE|false|False|FALSE"),
    "int": ("-+0123456789", r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+"),
    "float": (
        "-+.0123456789",
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
}
TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012, as in PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(TAG) not in SCALARS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = []  # a key need not be hashable
        for key, _ in node.value:
            seen.append(self.construct_object(key, deep=True))
            if seen[-1] in seen[:-1]:
                raise yaml.constructor.ConstructorError(problem=f"the key {seen[-1]!r} occurs twice{key.start_mark}")
        return super().construct_mapping(node, deep=deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text: str = self.construct_scalar(node).replace("_", "")
        return int(text, 0 if text.lstrip("-+")[:2] in ("0b", "0o", "0x") else 10)


for _name, (_first, _pattern) in SCALARS.items():
    _Loader.add_implicit_resolver(f"{TAG}{_name}", re.compile(rf"(?:{_pattern})$"), list(_first))
_Loader.add_constructor(f"{TAG}int", _Loader.construct_integer)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers  # so that strings that look like numbers are quoted


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UserError: The file cannot be read, is not valid YAML, or has duplicate keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML text.

    Args:
        text: The text.
        where: Prefix of error messages.

    Raises:
        UserError: It is not valid YAML, or has duplicate keys.
    """
    try:
        return yaml.load(text, _Loader)
    # PyYAML does not catch Python's errors, as for 5000 digits, `!!bool x` or 500 brackets.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None


def dump_yaml(values: Any) -> str:
    """Return `values` as YAML text, in the order of their keys."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
