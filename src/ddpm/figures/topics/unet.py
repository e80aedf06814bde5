"""The U-Net: its reconstructions, losses and samples."""

from pathlib import Path

from matplotlib.figure import Figure

from ddpm.data.dataset import load_dataset
from ddpm.figures.curves import loss_by_quartile, loss_by_timestep
from ddpm.figures.pictures import denoising, training_previews
from ddpm.figures.topic import TOPICS, Topic
from ddpm.figures.trained import RenderModel, Trained, draw_samples, load_trained, trained_deps
from ddpm.run.stage import StageRun

TEST = "data/images/test.safetensors"


def load(stage: StageRun) -> Trained:
    """Read the outputs of stages train_unet and sample_unet."""
    return load_trained("unet", stage.params, load_dataset(Path(TEST)))


TOPIC = TOPICS.register(__name__, Topic("U-Net", 3, [TEST, *trained_deps("unet")], load, RenderModel))


@TOPIC.figure(
    caption="Reconstructions of held-out images at several training steps.",
    alt="Noised images, predictions and reconstructions at several training steps",
)
def unet_previews(inputs: Trained) -> Figure:
    return training_previews(inputs.previews, inputs.preview_steps, inputs.label, inputs.params.n_moments)


@TOPIC.figure(
    caption="The loss during training, on training images and on held-out images.",
    alt="Curves of training and evaluation loss by training step",
)
def unet_loss(inputs: Trained) -> Figure:
    return inputs.losses.drawn(inputs.label)


@TOPIC.figure(
    caption="The training loss by quartile of the timesteps, from low to high noise.",
    alt="Four curves of the training loss by training step, one for each quartile of the timesteps",
)
def unet_loss_by_quartile(inputs: Trained) -> Figure:
    return loss_by_quartile(inputs.loss_by_quartile, inputs.max_steps, inputs.label)


@TOPIC.figure(
    caption="The held-out loss at each timestep, which shows the hard noise levels.",
    alt="Curve of the loss by timestep",
)
def unet_loss_by_timestep(inputs: Trained) -> Figure:
    return loss_by_timestep(inputs.loss_by_timestep, inputs.losses.prediction, inputs.label)


@TOPIC.figure(
    caption="Sampling {inputs.origin}: noise on the left, samples on the right.",
    alt="Rows of images that turn from noise into pictures",
)
def unet_denoising(inputs: Trained) -> Figure:
    return denoising(inputs.trajectories, inputs.num_steps, inputs.origin, inputs.label, inputs.params.strip_steps)


@TOPIC.figure(
    caption="Samples {inputs.origin}, not cherry-picked, and real images (figures 1 and 13 of the paper).",
    alt="A grid of samples, and real images",
)
def unet_samples(inputs: Trained) -> Figure:
    return draw_samples(inputs)
