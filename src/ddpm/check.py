"""Validation of params.yaml as a whole: every section by its class, and the rules across sections.

Stage `check` of each pipeline runs it before all other stages. It also records which code and files the result of
each stage depends on.
"""

from collections.abc import Sequence
from typing import Any

from ddpm.errors import UserError
from ddpm.rules import RULES, Rule, check_rules
from ddpm.run.dvc import CHECK, STAGES, Stages, declared_stages, sections, used_by_name
from ddpm.run.experiment import take_back_overrides
from ddpm.run.files import md5, write_json
from ddpm.run.params import PARAMS, WHOLE, params_model, section, validated
from ddpm.run.plan import PLAN, code_digests, plan_path, source_folder
from ddpm.run.root import from_root, in_repo
from ddpm.run.stage import Stage, StageRun
from ddpm.run.yaml import load_yaml


def checked_params(stages: Stages, values: Any, rules: Sequence[Rule] = RULES) -> Any:
    """Validate all params.

    Args:
        stages: All stages, which declare the sections.
        values: The contents of params.yaml.
        rules: The rules across sections.

    Returns:
        The values as attributes: `params.seed`, `params.sample.unet`.

    Raises:
        UserError: Params are invalid. The message has one line per mistake, with key, value and what is allowed.
    """
    params = validated(params_model(sections(stages)), values, in_repo(PARAMS), WHOLE)
    check_rules(params, rules)
    return params


def check_stage(rules: Sequence[Rule] = (), deps: Sequence[str] = ()) -> Stage:
    """Stage `check` of a pipeline.

    Args:
        rules: The rules across sections of its params.yaml.
        deps: Other files that the rules read.
    """

    def main(_: StageRun) -> None:
        stages = declared_stages()
        try:
            params = checked_params(stages, load_yaml(PARAMS), rules)
        except UserError as error:
            taken_back = f"\n{in_repo(PARAMS)} is restored; nothing has run" if take_back_overrides() else ""
            raise UserError(f"{error}{taken_back}") from None
        write_json(PLAN / "params.json", params.model_dump(exclude={"checkpoint_seconds", "processes"}))
        for name, declared in stages.items():
            if name != CHECK:
                used = code_digests(declared.script, used_by_name(name, stages, params))
                own = section(params, declared.stage.key or name) if declared.stage.section else None
                write_json(plan_path(name), used | {path: md5(from_root(path)) for path in getattr(own, "files", ())})

    code = f"{source_folder().as_posix()}/ddpm", str(STAGES)
    return Stage(main, general=(), deps=[str(PARAMS), *code, *deps], tracked=False)
