"""Stage check: all of params.yaml, before any work, and which code and which named files decide a stage's result."""

from ddpm.check import checked_params
from ddpm.errors import UserError
from ddpm.run.dvc import CHECK, declared_stages, used_by_name
from ddpm.run.experiment import take_back_overrides
from ddpm.run.files import md5, write_json
from ddpm.run.params import PARAMS, section
from ddpm.run.plan import PLAN, code_digests, plan_path
from ddpm.run.root import from_root
from ddpm.run.stage import Stage, StageRun, run
from ddpm.run.yaml import load_yaml
from ddpm.training.init import FOLDER

TAKEN_BACK = f"{PARAMS} is as it was before; nothing has run"


def main(_: StageRun) -> None:
    stages = declared_stages()
    try:
        params = checked_params(stages, load_yaml(PARAMS))
    except UserError as error:
        raise UserError(f"{error}\n{TAKEN_BACK}" if take_back_overrides() else str(error)) from None
    write_json(PLAN / "params.json", params.model_dump(exclude={"checkpoint_seconds"}))
    for name, declared in stages.items():
        if name != CHECK:
            code = code_digests(declared.script, used_by_name(name, stages, params))
            own = section(params, declared.stage.key or name) if declared.stage.section else None
            write_json(plan_path(name), code | {path: md5(from_root(path)) for path in getattr(own, "files", ())})


STAGES = {CHECK: Stage(main, general=(), deps=["params.yaml", "src/ddpm", "stages", FOLDER], tracked=False)}

if __name__ == "__main__":
    run(STAGES)
