"""Rules across sections of params.yaml, which stage `check` applies before all other stages.

A rule is a function of all params that yields one line per mistake: key, value and what is allowed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import prod
from typing import Any

from ddpm.conditioning.conditioning import CONDITIONINGS
from ddpm.data.dataset import FEWEST
from ddpm.errors import UserError
from ddpm.evaluation.evaluate import LEAST_INCEPTION_SAMPLES
from ddpm.exact.quality import MIN_PAIRS
from ddpm.networks.network import NETWORKS
from ddpm.run.params import PARAMS, check_size, section
from ddpm.run.root import from_root, in_repo
from ddpm.sampling.sampler import SAMPLERS
from ddpm.training.init import load_init

Rule = Callable[[Any], Iterator[str]]
MODELS = "tiny", "unet"
IMAGES = "images x pixels of data"


def check_rules(params: Any, rules: Sequence[Rule]) -> None:
    """Apply rules to all params.

    Raises:
        UserError: One line per mistake.
    """
    if mistakes := [f"{in_repo(PARAMS)}: {line}" for rule in rules for line in rule(params)]:
        raise UserError("\n".join(mistakes))


def img_shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """(channels, height, width) of the images of each model."""
    return {"tiny": tuple(params.generate_gradients.img_shape), "unet": params.data.source.img_shape}


def networks_can_be_built(params: Any) -> Iterator[str]:
    """Image size, levels, groups, heads and conditioning are compatible."""
    n_classes = {"tiny": 0, "unet": len(params.data.source.class_names)}
    for name, shape in img_shapes(params).items():
        try:
            getattr(params, f"train_{name}").config(shape, n_classes[name])
        except ValueError as error:
            yield f"train_{name}: {error}"


def init_can_be_trained(params: Any) -> Iterator[str]:
    """Initial weights are of the same network, schedule and prediction."""
    n_classes = {"tiny": 0, "unet": len(params.data.source.class_names)}
    for name, shape in img_shapes(params).items():
        training = getattr(params, f"train_{name}")
        for path in training.files:
            with suppress(ValueError):  # reported by another rule
                config = training.config(shape, n_classes[name])
                try:
                    load_init(from_root(path), NETWORKS[training.network], config, training)
                except UserError as error:
                    yield f"train_{name}.init: {error}"


def processes_have_work(params: Any) -> Iterator[str]:
    """There are not more processes than micro-batches."""
    for name in MODELS:
        most = getattr(params, f"train_{name}").micro_batches
        if most > 1 and (params.processes or 1) > most:
            yield (
                f"processes is {params.processes}; train_{name}.micro_batches is {most}, so it must be at most that, "
                "or null"
            )


def samples_can_be_drawn(params: Any) -> Iterator[str]:
    """The sampling section of each model fits its training."""
    for name in MODELS:
        yield from sampling_fits(params, f"sample.{name}", f"train_{name}")


def sampling_fits(params: Any, sample: str, train: str) -> Iterator[str]:
    """The steps, variance and guidance of a sampling section fit the training of its network, in any pipeline.

    A learned variance needs a network that learns it.

    Args:
        params: All params.
        sample: The key of a `SampleModel`.
        train: The key of a `TrainModel`.
    """
    own = section(params, sample)
    yield from steps_fit(params, sample, train)
    yield from _variance(f"{sample}.ancestral.variance", getattr(own.options("sampler"), "variance", ""), params, train)
    if own.guidance_scale != 1 and not section(params, train).conditioning:
        yield f"{sample}.guidance_scale is {own.guidance_scale:g}; {train}.conditioning is null, so it must be 1"
    yield from guidance_fits(own.guidance_scale, f"{sample}.guidance_scale", params, train)


def steps_fit(params: Any, sample: str, train: str) -> Iterator[str]:
    """A sampler takes at most as many steps as its model was trained on, and at least as many as its order.

    Args:
        params: All params.
        sample: The key of a section with a sampler and n_steps.
        train: The key of a `TrainModel`.
    """
    own, most = section(params, sample), section(params, train).max_steps
    least = SAMPLERS[own.sampler].min_steps
    if not least <= (own.n_steps or most) <= most:
        yield (
            f"{sample}.n_steps is {own.n_steps}; {train}.max_steps is {most}, so sampler {own.sampler} takes {least} "
            f"to {most}"
        )


def guidance_fits(scale: float, key: str, params: Any, train: str) -> Iterator[str]:
    """Guidance needs a conditional network that is trained with dropout of its conditioning.

    Args:
        scale: The guidance scale, or the largest of several.
        key: The key of the scale.
        params: All params.
        train: The key of a `TrainModel`.
    """
    training = section(params, train)
    if scale != 1 and training.conditioning and not training.options("conditioning").dropout:
        yield f"{key} is {scale:g}; {train}.{training.conditioning}.dropout is 0, so it must be 1"


def _variance(key: str, variance: str, params: Any, train: str) -> Iterator[str]:
    if variance == "learned" and not getattr(section(params, train).options("network"), "learn_variance", False):
        yield f"{key} is learned; {train}'s network does not predict it, so it must be fixed_large or fixed_small"


def variance_was_learned(params: Any) -> Iterator[str]:
    """Bounds and figures with a learned variance need a network that learns one."""
    used = {f"bound.variances.{i}": variance for i, variance in enumerate(params.bound.variances)}
    for key, variance in {"paper.variance": params.paper.variance, **used}.items():
        yield from _variance(key, variance, params, "train_unet")


def labels_are_there(params: Any) -> Iterator[str]:
    """A class-conditional network needs a data set with labels."""
    yield from conditioning_fits(params.train_unet, "train_unet", params.data)


def conditioning_fits(training: Any, train: str, data: Any) -> Iterator[str]:
    """The data set fits the conditioning of the `TrainModel` with key `train`, in any pipeline."""
    chosen = training.conditioning
    if chosen and CONDITIONINGS[chosen].needs_labels and not data.source.class_names:
        yield f"{train}.conditioning is {chosen}; data set {data.name} has no classes, so it must be null"
    elif chosen and CONDITIONINGS[chosen].data_set not in (None, data.name):
        made_for = CONDITIONINGS[chosen].data_set
        yield f"{train}.conditioning is {chosen}; it is made for data set {made_for}, not for {data.name}"


def conditioning_fits_augmentation(params: Any) -> Iterator[str]:
    """No augmentation with a conditioning on images, which would have to be flipped and shifted too."""
    for name in MODELS:
        training = getattr(params, f"train_{name}")
        if training.conditioning and CONDITIONINGS[training.conditioning].gives_image:
            for key, off in (("flip", False), ("max_shift", 0)):
                if (value := getattr(training, key)) != off:
                    yield (
                        f"train_{name}.{key} is {str(value).lower()}; conditioning {training.conditioning} shows "
                        f"images unchanged, so it must be {str(off).lower()}"
                    )


def moves_are_made(params: Any) -> Iterator[str]:
    """A network that is conditioned on augmentation is trained with augmentation."""
    for name in MODELS:
        training = getattr(params, f"train_{name}")
        tells = getattr(training.options("network"), "tell_moves", False)
        if tells and not (training.flip or training.max_shift):
            yield (
                f"train_{name}.{training.network}.tell_moves is true; no image is moved, so it must be false, or "
                f"train_{name}.flip true, or train_{name}.max_shift above 0"
            )


def clusters_have_images(params: Any) -> Iterator[str]:
    """k-means needs at least k images."""
    if params.train_unet.conditioning is None:
        return
    k, most = getattr(params.train_unet.options("conditioning"), "n_clusters", 0), params.data.train_size
    if k > most:
        yield f"train_unet.clusters.n_clusters is {k}; it cannot exceed the training images (data.n_train), {most}"


def evaluation_has_images(params: Any) -> Iterator[str]:
    """Evaluation uses no more images than there are."""
    own, source = params.evaluate_unet, params.data.source
    limits = {"sample.unet.n_samples": params.sample.unet.n_samples}
    limits["data.n_held_out"] = params.data.held_out_size  # the reference or the floor
    limits["the test split"] = source.n_test  # the other of the two
    gradients = "generate_gradients.n_held_out", params.generate_gradients.n_held_out
    for key, most in limits.items():
        if (own.n_samples or 0) > most:
            yield f"evaluate_unet.n_samples is {own.n_samples}; it cannot exceed {key}, {most}"
        least, why = FEWEST, "as many samples are evaluated"
        if own.inception_weights is not None:
            least, why = LEAST_INCEPTION_SAMPLES, f"{why} with evaluate_unet.inception_weights"
        if own.n_samples is None and most < least:
            yield f"{key} is {most}; {why}, so it must be at least {least}"
    for key, value, limit, most in (
        ("paper.n_steps", params.paper.n_steps or 1, "train_unet.max_steps", params.train_unet.max_steps),
        ("paper.n_pairs", params.paper.n_pairs, "half the test split", source.n_test // 2),
        ("2 x bound.stride", 2 * params.bound.stride, "the training images (data.n_train)", params.data.train_size),
        ("2 x bound.stride", 2 * params.bound.stride, "the test split", source.n_test),
        ("bound.stride", params.bound.stride, "train_unet.max_steps", params.train_unet.max_steps),
        ("evaluate_tiny.n_bound", params.evaluate_tiny.n_bound, *gradients),
        ("study_samplers.n_bound", params.study_samplers.n_bound, *gradients),
    ):
        if value > most:
            yield f"{key} is {value}; it cannot exceed {limit}, {most}"


def corners_can_be_tested(params: Any) -> Iterator[str]:
    """The test that corner colours are uniform needs `MIN_PAIRS` pairs: samples times channels."""
    channels = params.generate_gradients.img_shape[0]
    sizes = {"sample.tiny.n_samples": params.sample.tiny.n_samples}
    sizes |= {f"{key}.n_samples": getattr(params, key).n_samples for key in ("evaluate_tiny", "study_samplers")}
    for key, n_samples in sizes.items():
        if n_samples * channels < MIN_PAIRS:
            yield (
                f"{key} is {n_samples}; times the {channels} channels of generate_gradients.img_shape it must be at "
                f"least {MIN_PAIRS}, to test whether corner colours are uniform"
            )


def bounds_have_terms(params: Any) -> Iterator[str]:
    """The variational bound needs at least two timesteps."""
    for name in MODELS:
        if (max_steps := getattr(params, f"train_{name}").max_steps) < 2:
            yield f"train_{name}.max_steps is {max_steps}; the variational bound needs at least 2"


def tensors_fit(params: Any) -> Iterator[str]:
    """No tensor is larger than a machine can be expected to hold."""
    shapes = img_shapes(params)
    unet = params.train_unet.options("network")
    widths = {
        "tiny": max(getattr(params.train_tiny.options("network"), "hidden_size", 1), prod(shapes["tiny"])),
        "unet": max(
            getattr(unet, "channels", 1) * prod(shapes["unet"][1:]) // getattr(unet, "patch_size", 1) ** 2,
            prod(shapes["unet"]),
        ),
    }
    counts = {"tiny": params.generate_gradients.n_train, "unet": params.data.train_size}
    sizes: dict[str, tuple[int, ...]] = {IMAGES: (params.data.train_size, *shapes["unet"])}
    for name in MODELS:
        training, own = getattr(params, f"train_{name}"), getattr(params.sample, name)
        n_steps = own.n_steps or training.max_steps
        sizes |= {
            f"train_{name}.batch_size x the network's width": (min(training.batch_size, counts[name]), widths[name]),
            f"train_{name}.n_eval_per_step x pixels": (training.n_eval_per_step, *shapes[name]),
            f"sample.{name}.batch_size x the network's width": (min(own.batch_size, own.n_samples), widths[name]),
            f"sample.{name}.n_samples x pixels": (own.n_samples, *shapes[name]),
            f"sample.{name}.n_trajectories x steps x pixels": (own.n_trajectories, n_steps + 1, *shapes[name]),
        }
    for name in ("evaluate_tiny", "study_samplers"):
        own = getattr(params, name)
        for key in ("n_eval_per_step", "n_samples", "n_bound"):
            if hasattr(own, key):
                sizes[f"{name}.{key} x pixels"] = (getattr(own, key), *shapes["tiny"])
    bound, paper = params.bound, params.paper
    sizes |= {
        "bound.batch_size x the network's width": (min(bound.batch_size, bound.n_images), widths["unet"]),
        "bound.n_images x train_unet.max_steps": (bound.n_images, params.train_unet.max_steps),
        "paper.batch_size x the network's width": (min(paper.batch_size, paper.n_samples), widths["unet"]),
        "paper.n_lambdas x the network's width": (paper.n_lambdas, widths["unet"]),
        "paper.n_branches x the network's width": (paper.n_branches, widths["unet"]),
    }
    for keys, numbers in sizes.items():
        try:
            check_size(keys, *numbers)
        except ValueError as error:
            yield f"{error}; lower data.n_train, or data.folder.size for a folder" if keys == IMAGES else str(error)


RULES: tuple[Rule, ...] = (
    networks_can_be_built,
    init_can_be_trained,
    processes_have_work,
    samples_can_be_drawn,
    variance_was_learned,
    labels_are_there,
    conditioning_fits_augmentation,
    moves_are_made,
    clusters_have_images,
    evaluation_has_images,
    corners_can_be_tested,
    bounds_have_terms,
    tensors_fit,
)
