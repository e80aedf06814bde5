"""Denoising diffusion from scratch, in the order a course teaches it (Ho et al. 2020).

The names are loaded when they are first used: a program, and a pipeline stage, imports only the modules it needs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
