"""Stage check: all of params.yaml, before any work; and which code decides the result of each stage."""

from ddpm.rules import check_rules
from ddpm.run.dvc import CHECK, chosen_modules, declared_stages
from ddpm.run.files import write_json
from ddpm.run.params import load_params, section
from ddpm.run.plan import PLAN, code_digests, plan_path
from ddpm.run.stage import Stage, StageRun, run


def main(_: StageRun) -> None:
    stages = declared_stages()
    keys = {name: declared.stage.key or name for name, declared in stages.items() if declared.stage.section}
    params = load_params({key: stages[name].stage.section for name, key in keys.items()}, whole=True)
    check_rules(params)
    sections = {name: section(params, key) for name, key in keys.items()}
    write_json(PLAN / "params.json", params.model_dump(exclude={"checkpoint_seconds"}))
    for name, declared in stages.items():
        if name != CHECK:
            write_json(plan_path(name), code_digests(declared.script, chosen_modules(name, stages, sections)))


STAGES = {CHECK: Stage(main, general=(), deps=["params.yaml", "src/ddpm", "stages"], tracked=False)}

if __name__ == "__main__":
    run(STAGES)
