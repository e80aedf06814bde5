"""The tiny model: its predictions before, during and after training, and its samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ddpm.conditioning.guidance import encode_cond, given
from ddpm.data.dataset import ImageDataset, load_dataset
from ddpm.diffusion.forward import noise_img
from ddpm.diffusion.model import schedule_of
from ddpm.diffusion.posterior import Prediction, target
from ddpm.figures.canvas import image_table
from ddpm.figures.curves import PREDICTED, loss_by_quartile, loss_by_timestep
from ddpm.figures.names import run_label
from ddpm.figures.pictures import denoising, training_previews
from ddpm.figures.reports import Curve, read_curve, read_json
from ddpm.figures.topic import TOPICS, Topic
from ddpm.figures.trained import RenderModel, Trained, draw_samples, load_trained, trained_deps
from ddpm.images import denormalize_img
from ddpm.networks.checkpoint import load_model
from ddpm.run.seeding import generator, global_stream
from ddpm.run.stage import StageRun

GRADIENTS = "data/gradients/held_out.safetensors"
METRICS = "reports/evaluate_tiny/metrics.json"
OPTIMAL = "reports/evaluate_tiny/optimal_loss_by_timestep.csv"


class RenderTiny(RenderModel):
    """Section `render_tiny`: as for any model, and n_noised, the number of input images of an untrained network."""

    n_noised: Annotated[int, Ge(1), Le(8)]


@dataclass(frozen=True)
class Untrained:
    """A network before training, and noised images. Images are in the range of the network, [-1, 1] before noise.

    Attributes:
        label: The network's name in titles.
        prediction: What it predicts.
        xt: Noised images.
        wanted: The target of the prediction.
        predicted: The prediction.
        num_steps: t of each image.
    """

    label: str
    prediction: Prediction
    xt: Float[Tensor, "b c h w"]
    wanted: Float[Tensor, "b c h w"]
    predicted: Float[Tensor, "b c h w"]
    num_steps: Int[Tensor, "b"]


@dataclass(frozen=True)
class Inputs:
    """The tiny model before and after training, and the losses of the exact denoiser.

    Attributes:
        trained: After training.
        untrained: Before training.
        optimum: The loss of the exact denoiser on the timesteps and noise of the evaluation loss.
        optimal: The loss of the exact denoiser at each t.
    """

    trained: Trained
    untrained: Untrained
    optimum: float
    optimal: Curve


def load(stage: StageRun) -> Inputs:
    """Read the outputs of stages train_tiny, sample_tiny and evaluate_tiny, and run an untrained network."""
    unseen = load_dataset(Path(GRADIENTS))
    return Inputs(
        trained=load_trained("tiny", stage.params, unseen),
        untrained=load_untrained(stage, unseen[: stage.params.n_noised]),
        optimum=read_json(Path(METRICS))["optimal_eval_loss"],
        optimal=read_curve(Path(OPTIMAL)),
    )


def load_untrained(stage: StageRun, images: ImageDataset) -> Untrained:
    """A network with random weights, and its predictions for noised images."""
    trained = load_model(Path("models/tiny.safetensors"))
    network: Any = type(trained)
    with global_stream(stage.seed, "untrained"):
        model = network(trained.config).eval()
    schedule, x0 = schedule_of(trained), images.x0
    num_steps, eps, xt = noise_img(x0, schedule, generator=generator(stage.seed, "noise"), step_sampling="stratified")
    with torch.no_grad():
        predicted = given(model, encode_cond(model, x0, images.labels))(xt, num_steps)
    wanted = target(trained.prediction, x0, eps, num_steps, schedule)
    label = run_label(network.__name__, 0, stage.root_seed)
    return Untrained(label, trained.prediction, xt, wanted, predicted, num_steps)


TOPIC = TOPICS.register(
    __name__, Topic("Tiny model", 2, [GRADIENTS, METRICS, OPTIMAL, *trained_deps("tiny")], load, RenderTiny)
)


@TOPIC.figure(
    caption="Before training, predictions have little to do with the input.",
    alt="Noised gradients, the targets of the prediction, and the predictions of an untrained network",
)
def tiny_untrained(inputs: Inputs) -> Figure:
    it = inputs.untrained
    loss, zero = (it.predicted - it.wanted).square().mean().item(), it.wanted.square().mean().item()
    name = PREDICTED[it.prediction]
    order = it.num_steps.argsort(stable=True)
    return image_table(
        denormalize_img(torch.cat([images[order] for images in (it.xt, it.wanted, it.predicted)])),
        len(order),
        title=f"Prediction before training: {it.label}",
        note="The network gets the top row and should predict the middle one. Before training, its predictions have "
        f"little to do with either. Mean squared error {loss:.2f}; always predicting 0 (grey) would score {zero:.2f}.",
        xlabel="number of noise steps t",
        ylabel="input and prediction",
        columns=[f"t = {t:,}" for t in it.num_steps[order].tolist()],
        rows=["noised", f"{name} in it", f"predicted\n{name}"],
    )


@TOPIC.figure(
    caption="As training progresses, the reconstructions get closer to the original images.",
    alt="Noised gradients, predictions and reconstructions at several training steps",
)
def tiny_previews(inputs: Inputs) -> Figure:
    trained = inputs.trained
    return training_previews(trained.previews, trained.preview_steps, trained.label, trained.params.n_moments)


@TOPIC.figure(
    caption="The loss during training. In expectation, no network can go below the dotted line.",
    alt="Curves of training and evaluation loss by training step",
)
def tiny_loss(inputs: Inputs) -> Figure:
    trained = inputs.trained
    return trained.losses.drawn(trained.label, optimum=inputs.optimum)


@TOPIC.figure(
    caption="The same training loss by quartile of the timesteps, from low to high noise.",
    alt="Four curves of the training loss by training step, one for each quartile of the timesteps",
)
def tiny_loss_by_quartile(inputs: Inputs) -> Figure:
    trained = inputs.trained
    return loss_by_quartile(trained.loss_by_quartile, trained.max_steps, trained.label)


@TOPIC.figure(
    caption="The held-out loss of the network at each timestep, and that of the exact denoiser, the minimum.",
    alt="Curves of the loss by timestep",
)
def tiny_loss_by_timestep(inputs: Inputs) -> Figure:
    trained = inputs.trained
    return loss_by_timestep(trained.loss_by_timestep, trained.losses.prediction, trained.label, inputs.optimal)


@TOPIC.figure(
    caption="Sampling {inputs.trained.origin}: noise on the left, samples on the right.",
    alt="Rows of images that turn from noise into gradients",
)
def tiny_denoising(inputs: Inputs) -> Figure:
    trained = inputs.trained
    return denoising(trained.trajectories, trained.num_steps, trained.origin, trained.label, trained.params.strip_steps)


@TOPIC.figure(
    caption="Samples {inputs.trained.origin}, not cherry-picked, and real gradients for comparison.",
    alt="A grid of sampled gradients, and real ones",
)
def tiny_samples(inputs: Inputs) -> Figure:
    return draw_samples(inputs.trained)
