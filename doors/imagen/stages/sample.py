"""Stages sample_base and sample_super: low-resolution samples for captions, and their upsampled versions."""

from pathlib import Path

from ddpm.conditioning.captioned import cond_of_rows
from ddpm.data.dataset import to_x0_range
from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.cascade import SampleSuper, noised
from ddpm.sampling.draw import SampleModel, draw_samples

PROMPTS = "data/prompts.safetensors"
MODELS, SAMPLES = ({name: f"{kind}/{name}.safetensors" for name in ("base", "super")} for kind in ("models", "samples"))


def sample_base(stage: StageRun) -> None:
    model = load_model(MODELS["base"]).to(stage.compute.device)
    rows = load_tensors(Path(PROMPTS))["tokens"][: stage.params.n_samples]
    drawn = draw_samples(stage, model, cond=cond_of_rows(model.conditioning, rows))
    save_tensors(Path(SAMPLES["base"]), **drawn, filmed=rows[: stage.params.n_trajectories].clone())


def sample_super(stage: StageRun) -> None:
    model = load_model(MODELS["super"]).to(stage.compute.device)
    low = to_x0_range(load_tensors(Path(SAMPLES["base"]))["samples"][: stage.params.n_samples])
    cond = noised(model, low, stage.params.level, stage.seed)
    save_tensors(Path(SAMPLES["super"]), **draw_samples(stage, model, cond=cond))


STAGES = {
    "sample_base": Stage(
        sample_base,
        section=SampleModel,
        deps=[PROMPTS, MODELS["base"]],
        outs=[SAMPLES["base"]],
        resumes=True,
    ),
    "sample_super": Stage(
        sample_super,
        section=SampleSuper,
        deps=[SAMPLES["base"], MODELS["super"]],
        outs=[SAMPLES["super"]],
        resumes=True,
    ),
}

if __name__ == "__main__":
    run(STAGES)
