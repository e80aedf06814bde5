"""Training stages: build the network specified in params, and write the trained model and its reports."""

from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from pydantic import AfterValidator

from ddpm.conditioning.conditioning import CONDITIONINGS
from ddpm.conditioning.guidance import encode_cond
from ddpm.data.dataset import ImageDataset
from ddpm.diffusion.model import DiffusionModel
from ddpm.networks.checkpoint import save_model
from ddpm.networks.network import NETWORKS, network_config
from ddpm.registry import Registry
from ddpm.run.files import md5, save_tensors, write_csv, write_json
from ddpm.run.params import Chooses, Count
from ddpm.run.root import from_root
from ddpm.run.seeding import derive_seed, global_stream
from ddpm.run.stage import StageRun
from ddpm.training.evaluate import loss_by_timestep
from ddpm.training.fit import History
from ddpm.training.init import FOLDER, InitFile, load_init
from ddpm.training.loop import Examples
from ddpm.training.params import Training

CURVES = "loss", "loss_by_quartile", "eval_loss", "loss_by_timestep"


class TrainModel(Training, Chooses):
    """Sections `train_tiny` and `train_unet`: a network, its conditioning and the hyper-parameters of Algorithm 1."""

    network: Annotated[str, AfterValidator(NETWORKS.checked)]
    conditioning: Annotated[str, AfterValidator(CONDITIONINGS.checked)] | None
    init: InitFile | None
    n_eval: Annotated[int, Ge(1), Le(10_000_000)] | None
    n_eval_per_step: Count

    @classmethod
    def registries(cls) -> dict[str, Registry[Any]]:
        """The registry of each field."""
        return {"network": NETWORKS, "conditioning": CONDITIONINGS}

    @property
    def files(self) -> list[str]:
        """The model file to start training from, if any."""
        return [] if self.init is None else [f"{FOLDER}/{self.init}"]

    def config(self, img_shape: tuple[int, ...], n_classes: int) -> Any:
        """The config of the network for the images of a data set.

        Args:
            img_shape: (c, h, w).
            n_classes: Number of classes of the data set.

        Raises:
            ValueError: The network cannot be built.
        """
        conditioning = None
        if self.conditioning is not None:
            conditioning = {"name": self.conditioning, **self.options("conditioning").model_dump()}
        return network_config(self.network, self.options("network"), img_shape, self.max_steps, conditioning, n_classes)


def build_model(params: TrainModel, train: ImageDataset, seed: int) -> DiffusionModel:
    """A network for the images of `train`: a new one with its conditioning fitted to them, or the one in `params.init`.

    Args:
        params: The network and its options.
        train: The training split.
        seed: Seed of the initial weights and of fitting the conditioning.
    """
    config: Any = params.config(train.img_shape, len(train.class_names))
    network: Any = NETWORKS[params.network]
    if params.files:
        return load_init(from_root(params.files[0]), network, config, params)
    with global_stream(seed, "init"):
        model: DiffusionModel = network(config)
    if model.conditioning is not None:
        model.conditioning.fit(train.pictures, derive_seed(seed, params.conditioning or ""))
    return model


def examples(model: DiffusionModel, dataset: ImageDataset) -> Examples:
    """A split to train on, with the conditioning of `model`. 8-bit images stay 8-bit, others are `x0`."""
    images = dataset.images if dataset.images.dtype == torch.uint8 else dataset.x0
    return Examples(
        images, None if model.conditioning is None else encode_cond(model, dataset.pictures, dataset.labels)
    )


def held_out_examples(model: DiffusionModel, dataset: ImageDataset, n_eval: int | None) -> Examples:
    """The last `n_eval` images of a split, or all if it is None, as `x0`, with the conditioning of `model`."""
    chosen = dataset[-(n_eval or len(dataset)) :]
    return Examples(chosen.x0, encode_cond(model, chosen.pictures, chosen.labels))


def outputs(name: str) -> list[str]:
    """The files that `write_outputs` writes for stage train_NAME."""
    reports = ("metrics.json", *(f"{curve}.csv" for curve in CURVES))
    return [
        *(f"models/{name}{kind}.safetensors" for kind in ("", "_previews")),
        *(f"reports/train_{name}/{report}" for report in reports),
    ]


def write_outputs(stage: StageRun, model: DiffusionModel, history: History, held_out: Examples) -> None:
    """Write models/NAME.safetensors, models/NAME_previews.safetensors and reports/train_NAME/, and log the metrics.

    Args:
        stage: The stage train_NAME.
        model: The network with the EMA weights.
        history: The value returned by `fit`.
        held_out: Images in [-1, 1] for the loss by timestep.
    """
    name, params = stage.name.removeprefix("train_"), stage.params
    by_timestep = loss_by_timestep(model, held_out, params.n_eval_per_step, stage.seed, stage.compute)
    facts = {
        "schedule": params.schedule,
        "seed": stage.root_seed,
        "step": history.steps,
        "weighting": params.weighting,
        "weights": f"EMA {params.ema_decay}" if params.ema_decay else "raw",
    }
    if params.files:
        facts["init"] = md5(from_root(params.files[0]))
    save_model(Path(f"models/{name}.safetensors"), model, facts)
    save_tensors(
        Path(f"models/{name}_previews.safetensors"), images=history.previews, steps=torch.tensor(history.preview_steps)
    )
    reports = Path(f"reports/train_{name}")
    quartiles = ("step", *(f"train_loss_q{quartile}" for quartile in range(1, 5)))
    write_csv(reports / "loss.csv", ("step", "train_loss"), history.train_loss)
    write_csv(reports / "loss_by_quartile.csv", quartiles, ((step, *losses) for step, losses in history.quartile_loss))
    write_csv(reports / "eval_loss.csv", ("step", "eval_loss"), history.eval_loss)
    write_csv(reports / "loss_by_timestep.csv", ("t", "loss"), enumerate(by_timestep, start=1))
    metrics = {
        "train_loss": history.train_loss[-1][1],
        "eval_loss": history.eval_loss[-1][1],
        "steps": history.steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    write_json(reports / "metrics.json", metrics)
    stage.log.log_metrics({"model/parameters": metrics["parameters"]}, 0)
