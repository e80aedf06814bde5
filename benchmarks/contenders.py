"""What is compared: a contender trains for a number of steps and then draws images. Ours and the course's are here."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from torch import Tensor
from watch import Watch

from ddpm import recipes
from ddpm.run.compute import set_up
from ddpm.run.params import Params, validated
from ddpm.errors import UserError
from ddpm.images import denormalize_img, from_uint8, normalize_img, to_uint8
from ddpm.networks.model import labelled, labels_to_draw
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.sampling.spacing import stops
from ddpm.sampling.sample import sample_steps
from ddpm.sections import TrainUnet
from ddpm.run.seeding import derive_seed, generator, global_stream
from ddpm.training.loop import fit

EVALUATIONS = 50  # of the network, by everyone's sampler
DRAW_BATCH = 128  # images that are drawn at a time
OURS, COURSE = "ours", "course"
# Params that leave weights and samples as they are, or that the benchmark has its own of.
NO_MATTER = {"n_eval", "n_eval_per_step", "n_samples", "n_films", "n_images_to_log"}
NO_MATTER |= {"log_interval", "img_log_interval", "checkpoint_seconds"}
# Batch number and seed to `DRAW_BATCH` 8-bit images, (DRAW_BATCH, 1, 28, 28); the same images for the same numbers.
Draw = Callable[[int, int], Tensor]


class Contender(ABC):
    """One way to get a model of FashionMNIST.

    settings: what a reader should know of it, by `report.HEADINGS`. facts: everything else that decides its result.
    planned: the settings depend on the length of the run, so each length is a run of its own; else the longest run
    passes through the shorter ones. set_up_counts: it learns something before its first step.
    """

    name: str
    batch_size: int
    planned: bool
    set_up_counts: bool = False
    settings: dict[str, str]
    facts: Mapping[str, Any] = {}

    @abstractmethod
    def train(self, images: Tensor, n_steps: int, seed: int, watch: Watch) -> Draw:
        """Train afresh on 8-bit `images`, or go on from where `watch` puts it, up to step `n_steps`."""

    def digest(self) -> str:
        """Another one, another training."""
        return hashlib.sha256(json.dumps([self.settings, self.facts], sort_keys=True).encode()).hexdigest()[:8]


class Own(Contender):
    """A recipe of this project: `train_unet` and `sample.unet` of `params`, through `ddpm.training.loop.fit`."""

    def __init__(self, name: str, params: Params) -> None:
        training, sampling = params.train_unet, params.sample.unet
        self.name, self._params = name, params
        self.batch_size, self.planned = training.batch_size, training.lr_decay != "none"
        self.set_up_counts = training.labels == "clusters"
        if training.labels == "classes":
            raise UserError(f"{name}: train_unet.labels is classes, which nobody else is told; take none or clusters")
        self.facts = {
            "train_unet": training.model_dump(exclude=NO_MATTER),
            "sample": sampling.model_dump(exclude=NO_MATTER | {"batch_size"}),
            "precision": params.precision,
        }
        muon = "" if training.muon_lr is None else f"Muon {training.muon_lr:g} for weights of two dimensions and more, "
        warm_up = f", warm-up {training.warmup_steps} steps" if training.warmup_steps else ""
        skip = ", first_skip" if training.first_skip else ""
        scaled = ", as shares of the default run" if self.planned else ""
        clusters = f", {training.n_clusters} clusters" if training.labels == "clusters" else ""
        n_steps = training.max_steps if sampling.n_steps is None else sampling.n_steps
        guided = f", guidance {sampling.guidance_scale:g}" if sampling.guidance_scale != 1 else ""
        variance = f", {sampling.variance}" if sampling.sampler == "ancestral" else ""
        self.settings = {
            "project": f"ddpm, torch {version('torch')}",
            "network": f"Unet {training.channels}, {tuple(training.dim_mults)}, patch_size {training.patch_size}{skip}"
            f"{clusters}",
            "objective": f"{training.prediction}, {training.weighting} loss, {training.schedule}, "
            f"T = {training.max_steps}",
            "optimiser": f"{muon}Adam {training.lr:g}, betas {tuple(training.adam_betas)}, batch {self.batch_size}"
            f"{warm_up}, decay {training.lr_decay}",
            "average of weights": f"EMA {training.ema_decay:g}{scaled}" if training.ema_decay else "none",
            "sampler": f"{sampling.sampler}{variance}, {n_steps} steps, {sampling.spacing}{guided}",
        }

    def train(self, images: Tensor, n_steps: int, seed: int, watch: Watch) -> Draw:
        params = self._params.train_unet
        compute = set_up("cpu", self._params.precision, self._params.threads)
        per_epoch = ceil(len(images) / params.batch_size)
        params = fitted(params, n_steps, per_epoch) if self.planned else params
        params = params.model_copy(update={"epochs": n_steps / per_epoch})
        seed = derive_seed(seed, "train_unet")
        with global_stream(seed, "init"):
            model = Unet(UnetConfig.of(params, tuple(images.shape[1:])))
        labels = None
        if model.clusters is not None:
            model.clusters.learn(images, derive_seed(seed, "clusters"))
            labels = model.clusters.nearest(normalize_img(from_uint8(images)))
        fit(model, params, images, seed=seed, compute=compute, resume=watch, labels=labels)
        return partial(self._draw, model.eval().requires_grad_(False))

    def _draw(self, model: Unet, number: int, seed: int) -> Tensor:
        params = self._params.sample.unet
        compute = set_up("cpu", self._params.precision, self._params.threads)
        assert model.noise_schedule is not None
        n_steps = params.n_steps or len(model.noise_schedule)
        kept = stops(model.noise_schedule, n_steps, params.spacing)
        indices = range(number * DRAW_BATCH, (number + 1) * DRAW_BATCH)
        streams = [generator(seed, "sample/unet", index) for index in indices]
        told = labelled(model, labels_to_draw(model, seed, indices), guidance_scale=params.guidance_scale)
        steps = sample_steps(
            told, streams, kept, params.sampler, params.variance, params.eta, params.clip_sample, compute
        )
        return to_uint8(denormalize_img(deque(steps, maxlen=1).pop()))


def fitted(params: TrainUnet, n_steps: int, per_epoch: int) -> TrainUnet:
    """`params` for a run of `n_steps`: its warm-up and the memory of its EMA are the same shares of the run as before.

    The memory of an EMA is 1 / (1 - decay) steps.
    """
    ratio = n_steps / max(1, round(params.epochs * per_epoch))
    decay = max(0.0, 1 - (1 - params.ema_decay) / ratio) if params.ema_decay else 0.0
    return params.model_copy(update={"ema_decay": decay, "warmup_steps": round(params.warmup_steps * ratio)})


def own(name: str, changes: Mapping[str, Any], source: str) -> Own:
    """params.yaml with `changes`; source: what an error is to name."""
    values = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    return Own(name, validated(Params, recipes.merged(values, changes), source))


def own_contenders() -> list[Contender]:
    """params.yaml as it stands, and recipes/course.yaml on top of it."""
    # All of its 200 steps would take an hour a row; noise as strong as fixed_large does not suit a chain of fewer.
    sampling = {"sample": {"unet": {"n_steps": EVALUATIONS, "variance": "fixed_small"}}}
    course = recipes.merged(recipes.load(COURSE), sampling)
    return [own(OURS, {}, "params.yaml"), own(COURSE, course, "recipes/course.yaml")]
