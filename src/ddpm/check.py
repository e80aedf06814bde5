"""All of params.yaml checked at once: every section by its class, and the rules across sections."""

from typing import Any

from ddpm.rules import check_rules
from ddpm.run.dvc import Stages, sections
from ddpm.run.params import PARAMS, WHOLE, params_model, validated


def checked_params(stages: Stages, values: Any, where: str = str(PARAMS)) -> Any:
    """Validate all params.

    Args:
        stages: All stages, which declare the sections.
        values: What params.yaml holds.
        where: How each message begins.

    Returns:
        The values as attributes: `params.seed`, `params.sample.unet`.

    Raises:
        UserError: One line for each mistake, with key, value and what is allowed.
    """
    params = validated(params_model(sections(stages)), values, where, WHOLE)
    check_rules(params)
    return params
