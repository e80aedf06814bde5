"""Stage train_unet: Algorithm 1 on FashionMNIST's training split, a part of it held out for evaluation."""

from pathlib import Path

from ddpm.run import compute
from ddpm.run.files import load_tensors
from ddpm.images import from_uint8, normalize_img
from ddpm.networks.model import labels_of
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.stage import Stage, run_stage
from ddpm.run.resume.context import Resume, determinants
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.training.loop import fit
from ddpm.training.outputs import write_outputs


def main(stage: Stage) -> None:
    params = stage.params.train_unet
    seed = derive_seed(stage.params.seed, "train_unet")
    device = compute.set_up(stage.params.device, stage.params.precision, stage.params.threads)
    path = Path("data/fashion_mnist/train.safetensors")
    images, labels = (load_tensors(path)[name] for name in ("images", "labels"))
    stage.run.log_input(path, "train")
    train_images, held_out = images[: params.n_train], normalize_img(from_uint8(images[-params.n_eval :]))

    with global_stream(seed, "init"):
        model = Unet(UnetConfig.of(params, tuple(images.shape[1:])))
    if model.clusters is not None:
        model.clusters.learn(train_images, derive_seed(seed, "clusters"))
    train_labels = labels_of(model, normalize_img(from_uint8(train_images)), labels[: params.n_train])
    held_out_labels = labels_of(model, held_out, labels[-params.n_eval :])
    about = determinants("train_unet", stage.params, device)
    with Resume("train_unet", about, params.checkpoint_seconds) as resume:
        history = fit(
            model, params, train_images, held_out, seed, device, stage.run, resume, train_labels, held_out_labels
        )
        write_outputs(
            "unet",
            model,
            params,
            history,
            held_out,
            params.n_eval_per_step,
            stage.params.seed,
            device,
            stage.run,
            held_out_labels,
        )


if __name__ == "__main__":
    run_stage("train_unet", main, reads=("seed", "device", "precision", "threads", "train_unet"))
