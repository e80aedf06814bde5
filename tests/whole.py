"""All of params.yaml, as stage `check` sees it; the stages are imported once for all tests of a process."""

from collections.abc import Iterator, Sequence
from contextlib import chdir
from copy import deepcopy
from functools import cache, reduce
from operator import getitem
from typing import Any

from project import REPO

from ddpm.check import checked_params
from ddpm.rules import RULES, Rule
from ddpm.run.dvc import Stages, declared_stages, sections
from ddpm.run.params import WHOLE, params_model, validated
from ddpm.run.yaml import load_yaml

VALUES: dict[str, Any] = load_yaml(REPO / "params.yaml")


@cache
def stages() -> Stages:
    """Every stage, by name."""
    with chdir(REPO):
        return declared_stages()


def check(values: Any, rules: Sequence[Rule] = RULES) -> Any:
    """All params; UserError, with lines that begin with "params.yaml: ", for every mistake."""
    return checked_params(stages(), values, rules)


@cache
def _section_model(key: str) -> Any:
    return params_model({key: sections(stages())[key]}, "ignore")


def check_section(key: str, values: Any) -> None:
    """The section `key` and the general values alone: a hundred times faster."""
    validated(_section_model(key), values, "params.yaml", WHOLE)


def nodes(values: Any = VALUES, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every section, subsection and key."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from nodes(value, (*path, key))


def value_at(path: Sequence[str]) -> Any:
    """What params.yaml holds there."""
    return reduce(getitem, path, VALUES)


def changed(path: Sequence[str], value: Any) -> dict[str, Any]:
    """The values of params.yaml with another one at `path`."""
    values = deepcopy(VALUES)
    reduce(getitem, path[:-1], values)[path[-1]] = value
    return values


def without(path: Sequence[str]) -> dict[str, Any]:
    """The values of params.yaml without what stands at `path`."""
    values = deepcopy(VALUES)
    del reduce(getitem, path[:-1], values)[path[-1]]
    return values
