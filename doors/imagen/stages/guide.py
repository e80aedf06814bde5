"""Stage guide: samples by caption, guidance scale and clipping method."""

from pathlib import Path

from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.guide import Guide, draw_guided

MODELS, SAMPLES = ("models/base.safetensors", "models/super.safetensors"), "samples/guide.safetensors"


def main(stage: StageRun) -> None:
    base, model = (load_model(path).to(stage.compute.device) for path in MODELS)
    save_tensors(Path(SAMPLES), **draw_guided(stage, base, model))


STAGES = {"guide": Stage(main, section=Guide, deps=[*MODELS], outs=[SAMPLES], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
