"""A step of what each section of params.yaml steers, as small as it can be: what accepted values have to survive."""

from contextlib import suppress
from itertools import islice, product
from math import isfinite

import torch

from ddpm.run import compute
from ddpm.run.compute import Compute
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.evaluation.bound import variational_bound
from ddpm.evaluation.classifier import CLASSES, N_FEATURES, Described, FashionCnn
from ddpm.exact.quality import uniformity
from ddpm.evaluation.quality import copies, scores
from ddpm.figures import pictures
from ddpm.images import normalize_img, to_uint8
from ddpm.networks.model import labelled
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.networks.architectures.mlp import TinyDiffuser, TinyDiffuserConfig
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.sampling.spacing import stops, timesteps
from ddpm.sampling.reverse import ReverseProcess
from ddpm.sampling.sample import sample_steps
from ddpm.run.seeding import generator
from ddpm.training.classifier import fit_classifier
from ddpm.training.loop import fit

CLOTHES = (1, 28, 28)


def set_up(params):
    threads = torch.get_num_threads()
    try:
        with suppress(UserError):  # no CUDA or bf16 here
            compute.set_up(params.device, params.precision, params.threads)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    generator(params.seed, "any")


def train_tiny(params):
    shape, training = tuple(params.generate_gradients.img_shape), params.train_tiny
    step(lambda: TinyDiffuser(TinyDiffuserConfig(shape, training.hidden_size, training.max_steps)), training, shape)
    sample(params)


def train_unet(params):
    p = params.train_unet
    step(lambda: Unet(UnetConfig.of(p, CLOTHES)), p, CLOTHES)


def step(build, training, shape):
    """One of Algorithm 1 on a single image, the least batch; only the shapes of it where the network is large."""
    with torch.device("meta"):
        model = build()
    if sum(parameter.numel() for parameter in model.parameters()) > 2_000_000:
        told = labelled(model, torch.zeros(1, device="meta"))
        told(torch.zeros(1, *shape, device="meta"), torch.ones(1, device="meta"))
        return
    images, labels = normalize_img(gradient_images(1, shape, generator(0, "images"))), torch.zeros(1)
    short = training.model_copy(update={"epochs": 1e-9})
    fit(build(), short, images, images, labels=labels, eval_labels=labels)


def sample(params):
    for name, shape in (("tiny", tuple(params.generate_gradients.img_shape)), ("unet", CLOTHES)):
        p, training = getattr(params.sample, name), getattr(params, f"train_{name}")
        T = training.max_steps
        model = TinyDiffuser(TinyDiffuserConfig(shape, 2, T)).requires_grad_(False)
        model.noise_schedule, model.prediction = (
            NoiseSchedule(T, betas=SCHEDULES[training.schedule](T)),
            training.prediction,
        )
        kept = stops(model.noise_schedule, p.n_steps or T, p.spacing)
        steps = sample_steps(model, [generator(0, "x")], kept, p.sampler, p.variance, p.eta, p.clip_sample)
        *_, x = islice(steps, 4)
        assert x.isfinite().all()


def train_classifier(params):
    few = params.train_classifier.model_copy(update={"epochs": min(6, params.train_classifier.epochs)})
    fit_classifier(FashionCnn(), few, torch.zeros(2, *CLOTHES, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8))


def evaluate_tiny(params):
    p, shape = params.evaluate_tiny, tuple(params.generate_gradients.img_shape)
    for name, sampler, T in {*product(p.schedules, p.samplers, p.max_steps)}:
        model = ExactDenoiser(shape, NoiseSchedule(T, betas=SCHEDULES[name](T)))
        model.prediction = "x0"
        *_, x = islice(sample_steps(model, [generator(0, "x")], sampler=sampler, variance=p.variance), 2)
        assert x.isfinite().all()
    uniformity(torch.randint(255, (p.n_samples * shape[0], 2)))


def bound(params):
    p, T = params.bound, params.train_unet.max_steps
    schedule = NoiseSchedule(T, betas=SCHEDULES[params.train_unet.schedule](T))
    model = ExactDenoiser((1, 1, 2), NoiseSchedule(2, betas=schedule.betas[:2]))
    images = to_uint8(gradient_images(min(p.n_images, 2 * p.stride), (1, 1, 2), generator(0, "images")))
    bounds = variational_bound(model, images[:200], p.variances, 0, Compute(), p.clip_sample, p.batch_size)
    assert all(isfinite(found.margin) for found in bounds.values())


def evaluate_unet(params):
    p = params.evaluate_unet
    made, floor = (described(min(p.n_samples, 300)) for _ in range(2))
    reference = described(min(p.n_held_out, 300))
    dict(scores(made, floor, reference, 2, 0))
    copies(made.features, floor.features, reference.features, described(51).features, p.duplicate_quantile, 2, 0)


def paper(params):
    p, T = params.paper, params.train_unet.max_steps
    model = TinyDiffuser(TinyDiffuserConfig((1, 2, 2), 2, T)).requires_grad_(False)
    model.noise_schedule = NoiseSchedule(T, betas=SCHEDULES[params.train_unet.schedule](T))
    reverse = ReverseProcess(model, timesteps(T, p.n_steps or T), p.variance, p.clip_sample)
    x, weights = torch.zeros(1, 2, 2), torch.linspace(0, 1, p.n_lambdas)
    stop = min(map(reverse.stop, (*p.split_depths, *p.coarse_depths, p.interpolation_depth)))
    assert reverse.kept[stop] <= T
    streams = [generator(0, "x") for _ in weights]
    assert reverse.interpolate(x, x, weights, min(stop, 3), x, streams).isfinite().all()


def described(n):
    return Described(torch.rand(n, 784), torch.randn(n, N_FEATURES), torch.randint(len(CLASSES), (n,)))


def render_grids(params):
    p = params.render_grids
    schedule = NoiseSchedule(max(p.forward_steps))
    schedule.alpha_bar(torch.tensor(p.forward_steps))
    pixels = gradient_images(2, tuple(p.forward_img_shape))
    pictures.normalization(pixels[: p.n_noised], 0)
    pictures.gradients(torch.rand(16, 3, 4, 5)[: p.n_gradients], 0)
    pictures.sample_grid(
        torch.rand(20, 3, 4, 5), torch.rand(3, 3, 4, 5)[: p.grid_columns], "", p.grid_rows, p.grid_columns
    )
    pictures.denoising(torch.rand(3, 1, 3, 4, 5), torch.arange(3), "", p.strip_steps)
    pictures.training_previews(torch.rand(2, 1, 3, 8, 15), torch.arange(2), "", p.n_moments)


STEPS = {
    "generate_gradients": train_tiny,
    "train_tiny": train_tiny,
    "train_unet": train_unet,
    "train_classifier": train_classifier,
    "sample": sample,
    "evaluate_tiny": evaluate_tiny,
    "evaluate_unet": evaluate_unet,
    "bound": bound,
    "paper": paper,
    "render_grids": render_grids,
}
