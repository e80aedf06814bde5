"""Stages sample_tiny and sample_unet: samples of a trained model."""

from pathlib import Path

from ddpm.networks.checkpoint import load_model
from ddpm.run.files import save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.draw import SampleModel, draw_samples


def main(stage: StageRun) -> None:
    name = stage.name.removeprefix("sample_")
    model = load_model(f"models/{name}.safetensors").to(stage.compute.device)
    save_tensors(Path(f"samples/{name}.safetensors"), **draw_samples(stage, model))


STAGES = {
    f"sample_{name}": Stage(
        main,
        section=SampleModel,
        key=f"sample.{name}",
        deps=[f"models/{name}.safetensors"],
        outs=[f"samples/{name}.safetensors"],
        resumes=True,
    )
    for name in ("tiny", "unet")
}

if __name__ == "__main__":
    run(STAGES)
