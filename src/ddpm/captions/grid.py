"""Captions and guidance scales of a figure, from params.yaml."""

from typing import Annotated

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator

from ddpm.captions.grammar import parse
from ddpm.captions.vocabulary import tokens
from ddpm.errors import UserError
from ddpm.run.params import Section


def _a_caption(caption: str) -> str:
    try:
        tokens([caption])
        parse(caption)
    except UserError as error:
        raise ValueError(str(error)) from None
    return caption


CaptionText = Annotated[str, AfterValidator(_a_caption)]
GuidanceScale = Annotated[float, Ge(1), Le(100)]


class Grid(Section):
    """Captions and guidance scales, with `n` samples for each pair of the two."""

    captions: Annotated[list[CaptionText], Len(1, 16)]
    scales: Annotated[list[GuidanceScale], Len(1, 8)]
    n: Annotated[int, Ge(1), Le(12)]
