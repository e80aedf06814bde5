"""Type checks of public functions: arguments are checked against annotations, with readable error messages."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from jaxtyping import jaxtyped
from torch import Tensor

P = ParamSpec("P")
Result = TypeVar("Result")
SHOWN = Repr()
SHOWN.maxother = SHOWN.maxstring = 60
NAMED = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY


def checked(function: Callable[P, Result]) -> Callable[P, Result]:
    """Wrap a function so that it raises TypeError if an argument does not match its annotation."""
    takes = signature(function)
    hints = {name: each.annotation for name, each in takes.parameters.items() if each.kind in NAMED}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        with jaxtyped("context"):  # within this context, sizes of the same name must be equal
            for name, value in takes.bind(*args, **kwargs).arguments.items():
                if name in hints and not fits(value, hints[name]):
                    expected = _words(hints[name])
                    raise TypeError(f"{function.__name__}: {name} is {_shown(value)}; it must be {expected}")
        return function(*args, **kwargs)

    return call


def fits(value: Any, hint: Any) -> bool:
    """Whether a value matches an annotation. Numbers of any library count as int or float, and lists as tuples."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(value is each or (isinstance(value, str) and value == each) for each in inner)
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin is list:
        return isinstance(value, list) and all(fits(each, inner[0]) for each in value)
    if isinstance(value, bool) and hint in (int, float):  # Python's bool is an int
        return False
    return isinstance(value, {int: Integral, float: Real}.get(hint, origin or hint))


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    return SHOWN.repr(value)


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_words(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if issubclass(getattr(hint, "array_type", NoneType), Tensor):
        return f"a tensor {hint.__name__}, sizes of the same name being equal in all arguments"
    return "None" if hint is NoneType else getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint)
