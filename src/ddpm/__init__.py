"""Denoising diffusion from scratch, in the order a course teaches it (Ho et al. 2020).

Names are loaded when they are first used, so a program or a pipeline stage imports only the modules it needs.
"""

from types import FunctionType
from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    found = _load(name)
    if isinstance(found, FunctionType):
        from ddpm.arguments import checked

        found = globals()[name] = checked(found)
    return found
