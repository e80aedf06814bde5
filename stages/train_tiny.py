"""Stage train_tiny: Algorithm 1 on colour gradients, with the course's MLP."""

from pathlib import Path

from ddpm.run import compute
from ddpm.run.files import load_tensors
from ddpm.images import normalize_img
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.training.loop import fit
from ddpm.training.outputs import write_outputs


def main(stage: Stage) -> None:
    params = stage.params.train_tiny
    seed = derive_seed(stage.params.seed, "train_tiny")
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    paths = {split: Path(f"data/gradients/{split}.safetensors") for split in ("train", "eval")}
    images = {split: normalize_img(load_tensors(path)["images"]) for split, path in paths.items()}
    for split, path in paths.items():
        stage.run.log_input(path, split)

    img_shape = tuple(images["train"].shape[1:])
    with global_stream(seed, "init"):
        model = TinyDiffuser(TinyDiffuserConfig(img_shape, params.hidden_size, params.max_steps))
    about = determinants("train_tiny", stage.params, device)
    with Resume("train_tiny", about, params.checkpoint_seconds) as resume:
        history = fit(model, params, images["train"], images["eval"], seed, device, stage.run, resume)
        write_outputs(
            "tiny", model, params, history, images["eval"], params.n_eval_per_step, stage.params.seed, device, stage.run
        )


if __name__ == "__main__":
    run_stage("train_tiny", main, reads=("seed", "device", "precision", "threads", "train_tiny"))
