"""The smallest step of each section of params.yaml, which every accepted value must survive."""

from contextlib import suppress
from itertools import islice
from math import isfinite, prod

import torch
from scored import scores
from torch import nn

from ddpm.conditioning.guidance import draw_cond, given
from ddpm.data.dataset import ImageDataset
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.evaluation.bound import VariationalBound
from ddpm.evaluation.classifier import N_FEATURES, Classifier, ClassifierConfig, fit_classifier
from ddpm.evaluation.metric import METRICS, Comparison, Described
from ddpm.evaluation.two_sample import HEADLINE
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.images import normalize_img, to_uint8
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.network import NETWORKS
from ddpm.rules import img_shapes
from ddpm.run import compute
from ddpm.run.compute import Compute
from ddpm.run.seeding import generator
from ddpm.sampling.chain import Chain, sample_steps
from ddpm.sampling.spacing import timesteps
from ddpm.training.fit import fit
from ddpm.training.loop import Examples

LARGE = 2_000_000  # weights: for larger networks only shapes are computed


def set_up(params):
    threads = torch.get_num_threads()
    try:
        with suppress(UserError):  # no CUDA or bf16 here
            compute.set_up(params.device, params.precision)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    generator(params.seed, "any")


def generate_gradients(params):
    assert gradient_images(1, tuple(params.generate_gradients.img_shape), generator(0, "images")).isfinite().all()


def train(name):
    """One step of Algorithm 1 on a single image, the smallest batch."""

    def step(params):
        own, shape = getattr(params, f"train_{name}"), img_shapes(params)[name]
        n_classes = len(params.data.source.class_names) if name == "unet" else 0
        config = own.config(shape, n_classes)
        with torch.device("meta"):
            model = NETWORKS[own.network](config)
        if sum(parameter.numel() for parameter in model.parameters()) > LARGE:
            cond = None if model.conditioning is None else torch.zeros(1, dtype=torch.long, device="meta")
            given(model, cond)(torch.zeros(1, *shape, device="meta"), torch.ones(1, device="meta"))
            return
        images = normalize_img(gradient_images(1, shape, generator(0, "images")))
        example = Examples(images, None if model.conditioning is None else torch.zeros(1, dtype=torch.long))
        short = own.model_copy(update={"epochs": 1e-9})
        fit(NETWORKS[own.network](config), short, example, example)
        sample(name)(params)

    return step


def sample(name):
    """Four steps of the sampler."""

    def step(params):
        own, training = getattr(params.sample, name), getattr(params, f"train_{name}")
        model = toy(training.schedule, training.max_steps, training.prediction)
        steps = timesteps(model.noise_schedule, own.n_steps, own.spacing)
        options = own.options("sampler")
        with suppress(ValueError if getattr(options, "variance", "") == "learned" else ZeroDivisionError):
            walk = sample_steps(model, [generator(0, "x")], steps, own.sampler, options, own.clip_sample)
            *_, x = islice(walk, 4)
            assert x.isfinite().all()
        assert draw_cond(model, 0, range(1)) is None

    return step


def samples(params):
    for name in ("tiny", "unet"):
        sample(name)(params)


def toy(schedule, max_steps, prediction="x0", shape=(1, 2, 2)):
    """An untrained network of a few weights, ready to sample from."""
    model: nn.Module = TinyDiffuser(TinyDiffuserConfig(shape, 2, max_steps)).requires_grad_(False)
    model.noise_schedule = NoiseSchedule(max_steps, betas=SCHEDULES[schedule](max_steps))
    model.prediction = prediction
    return model


def train_classifier(params):
    few = params.train_classifier.model_copy(update={"epochs": min(6, params.train_classifier.epochs)})
    shape, n_classes = params.data.source.img_shape, len(params.data.source.class_names)
    images, labels = torch.zeros(2, *shape, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8)
    dataset = ImageDataset(images, labels, params.data.source.class_names)
    fit_classifier(Classifier(ClassifierConfig(shape[0], n_classes)), few, dataset, 0, Compute(), None)


def study_samplers(params):
    own = params.study_samplers
    for schedule, name, T in {*own.cells}:
        model = ExactDenoiser((1, 1, 2), NoiseSchedule(T, betas=SCHEDULES[schedule](T)), "x0")
        *_, x = islice(sample_steps(model, [generator(0, "x")], None, name, own.options("samplers", name)), 2)
        assert x.isfinite().all()


def bound(params):
    own = params.bound
    betas = SCHEDULES[params.train_unet.schedule](params.train_unet.max_steps)[:2]
    model = ExactDenoiser((1, 1, 2), NoiseSchedule(2, betas=betas), "x0")
    images = to_uint8(gradient_images(4, (1, 1, 2), generator(0, "images")))
    known = [variance for variance in own.variances if variance != "learned"]
    bounds = VariationalBound(model, images, known, 0, Compute(), own.clip_sample, own.batch_size, 1, None).run()
    assert all(isfinite(found.margin) for found in bounds.values())


def evaluate_unet(params):
    own, n_classes = params.evaluate_unet, len(params.data.source.class_names)
    made, real, reference, train = (described(n, n_classes) for n in (300, 300, 300, 51))
    comparison = Comparison(made, real, reference, train, n_classes, 2, own.duplicate_quantile, 1, 0)
    for name in METRICS:
        if METRICS[name].headline != HEADLINE:  # these train networks, for `epochs` epochs
            scores(METRICS[name], comparison)


def controls(params):
    own, n_classes = params.controls, len(params.data.source.class_names)
    sets = (described(n, n_classes) for n in (300, 300, 300, min(own.n_train, 60)))
    comparison = Comparison(*sets, n_classes, 2, own.duplicate_quantile, 1, 0)
    assert scores(METRICS["duplicates_pixel"], comparison) is not None


def described(n, n_classes):
    return Described(
        torch.randint(256, (n, 1, 6, 6), dtype=torch.uint8), torch.randn(n, N_FEATURES), torch.randint(n_classes, (n,))
    )


def paper(params):
    own, T = params.paper, params.train_unet.max_steps
    variance = "fixed_small" if own.variance == "learned" else own.variance
    model = toy(params.train_unet.schedule, T)
    chain = Chain(model, timesteps(model.noise_schedule, own.n_steps), variance, own.clip_sample)
    x, weights = torch.zeros(model.img_shape), torch.linspace(0, 1, own.n_lambdas)
    index = min(map(chain.index, (*own.split_depths, *own.coarse_depths, own.interpolation_depth)))
    assert chain.timesteps[index] <= T
    streams = [generator(0, "x") for _ in weights]
    assert chain.interpolate(x, x, weights, min(index, 3), x, streams).isfinite().all()


def render_data(params):
    own = params.render_data
    NoiseSchedule(max(own.forward_steps)).alpha_bar(torch.tensor(own.forward_steps))
    assert gradient_images(1, tuple(own.forward_img_shape), generator(0, "x")).numel() == prod(own.forward_img_shape)


STEPS = {
    "generate_gradients": generate_gradients,
    "train_tiny": train("tiny"),
    "train_unet": train("unet"),
    "train_classifier": train_classifier,
    "sample": samples,
    "study_samplers": study_samplers,
    "evaluate_unet": evaluate_unet,
    "bound": bound,
    "paper": paper,
    "render_data": render_data,
}
