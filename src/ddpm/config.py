"""params.yaml as one frozen, typed object: an unknown key or a bad value is an error that names it."""

from math import prod
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ddpm.errors import UserError
from ddpm.sections import (
    FASHION_MNIST_SIZE,
    LEAST_PAIRS,
    LEAST_STEPS,
    Bound,
    DownloadFashionMnist,
    EvaluateTiny,
    EvaluateUnet,
    GenerateGradients,
    Paper,
    RenderGrids,
    Sample,
    Section,
    Seed,
    TrainClassifier,
    TrainTiny,
    TrainUnet,
    check_size,
)

SHOWN = Repr()
SHOWN.maxstring = SHOWN.maxlong = SHOWN.maxother = 80
Model = TypeVar("Model", bound=BaseModel)


class Params(Section):
    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Annotated[int, Ge(1), Le(1024)]
    generate_gradients: GenerateGradients
    download_fashion_mnist: DownloadFashionMnist
    train_tiny: TrainTiny
    train_unet: TrainUnet
    train_classifier: TrainClassifier
    sample: Sample
    evaluate_tiny: EvaluateTiny
    evaluate_unet: EvaluateUnet
    bound: Bound
    paper: Paper
    render_grids: RenderGrids

    @model_validator(mode="after")
    def _samplers_fit_their_models(self) -> "Params":
        for name, training in (("tiny", self.train_tiny), ("unet", self.train_unet)):
            params = getattr(self.sample, name)
            n_steps, least = params.n_steps or training.max_steps, LEAST_STEPS.get(params.sampler, 1)
            if not least <= n_steps <= training.max_steps:
                raise ValueError(
                    f"sample.{name}.n_steps is {params.n_steps}; train_{name}.max_steps is {training.max_steps}, so "
                    f"sampler {params.sampler} takes {least} to {training.max_steps}"
                )
        return self

    @model_validator(mode="after")
    def _variance_was_learned(self) -> "Params":
        if self.sample.tiny.variance == "learned":
            raise ValueError(
                "sample.tiny.variance is learned; the tiny network learns none, so it takes fixed_large or fixed_small"
            )
        for key, variances in (
            ("sample.unet.variance", [self.sample.unet.variance]),
            ("bound.variances", self.bound.variances),
            ("paper.variance", [self.paper.variance]),
        ):
            if "learned" in variances and not self.train_unet.learn_variance:
                raise ValueError(
                    f"{key} is learned; train_unet.learn_variance must be true for that, or take fixed_large "
                    "or fixed_small"
                )
        return self

    @model_validator(mode="after")
    def _guidance_has_both_sides(self) -> "Params":
        scale, training = self.sample.unet.guidance_scale, self.train_unet
        if scale != 1 and (training.labels == "none" or not training.label_dropout):
            raise ValueError(
                f"sample.unet.guidance_scale is {scale:g}; train_unet.labels is {training.labels} and "
                f"train_unet.label_dropout {training.label_dropout:g}; with no labels, or no dropout, it must be 1"
            )
        return self

    @model_validator(mode="after")
    def _held_out_is_unseen(self) -> "Params":
        n_held_out = self.evaluate_unet.n_held_out
        for section in ("train_unet", "train_classifier", "evaluate_unet"):
            n_train = getattr(self, section).n_train
            if n_train + n_held_out > 60_000:
                raise ValueError(
                    f"{section}.n_train + evaluate_unet.n_held_out is {n_train + n_held_out}; the training split has "
                    "60000 images, and held-out ones must not be trained on"
                )
        return self

    @model_validator(mode="after")
    def _evaluation_has_images(self) -> "Params":
        channels = self.generate_gradients.img_shape[0]
        for key, n_samples in (
            ("sample.tiny", self.sample.tiny.n_samples),
            ("evaluate_tiny", self.evaluate_tiny.n_samples),
        ):
            if n_samples * channels < LEAST_PAIRS:
                raise ValueError(
                    f"{key}.n_samples is {n_samples}; times generate_gradients.img_shape's {channels} channels it must "
                    f"be at least {LEAST_PAIRS}, to test whether colours are uniform"
                )
        n_samples, limits = self.evaluate_unet.n_samples, {"sample.unet.n_samples": self.sample.unet.n_samples}
        if self.evaluate_unet.reference == "test":  # then the floor is of held-out images
            limits["evaluate_unet.n_held_out"] = self.evaluate_unet.n_held_out
        for key, most in limits.items():
            if n_samples > most:
                raise ValueError(f"evaluate_unet.n_samples is {n_samples}; it cannot exceed {key}, {most}")
        return self

    @model_validator(mode="after")
    def _paper_has_steps_and_images(self) -> "Params":
        for key, value, limit, most in (
            ("n_steps", self.paper.n_steps, "train_unet.max_steps", self.train_unet.max_steps),
            ("n_samples", self.paper.n_samples, "evaluate_unet.n_held_out", self.evaluate_unet.n_held_out),
        ):
            if value is not None and value > most:
                raise ValueError(f"paper.{key} is {value}; it cannot exceed {limit}, {most}")
        return self

    @model_validator(mode="after")
    def _bound_has_steps_and_images(self) -> "Params":
        bound, unet, tiny = self.bound, self.train_unet, self.train_tiny
        for name, max_steps in (("tiny", tiny.max_steps), ("unet", unet.max_steps)):
            if max_steps < 2:
                raise ValueError(f"train_{name}.max_steps is {max_steps}; the variational bound needs at least 2")
        for key, value, limit, most in (
            ("n_images", bound.n_images, "train_unet.n_train", unet.n_train),
            ("stride", bound.stride, "train_unet.max_steps", unet.max_steps),
        ):
            if value > most:
                raise ValueError(f"bound.{key} is {value}; it cannot exceed {limit}, {most}")
        return self

    @model_validator(mode="after")
    def _tensors_fit(self) -> "Params":
        tiny, unet, gradients = self.train_tiny, self.train_unet, self.generate_gradients
        size, shape = FASHION_MNIST_SIZE // unet.patch_size, gradients.img_shape
        in_tiny, in_unet = max(tiny.hidden_size, prod(shape)), max(unet.channels * size**2, FASHION_MNIST_SIZE**2)
        images = "generate_gradients.img_shape"
        check_size(f"train_tiny.hidden_size x {images}", tiny.hidden_size, *shape)
        check_size(f"train_tiny.n_eval_per_step x {images}", tiny.n_eval_per_step, *shape)
        check_size(f"evaluate_tiny.n_eval_per_step x {images}", self.evaluate_tiny.n_eval_per_step, *shape)
        check_size(f"evaluate_tiny.n_samples x {images}", self.evaluate_tiny.n_samples, *shape)
        check_size("train_unet.n_eval_per_step x FashionMNIST's pixels", unet.n_eval_per_step, FASHION_MNIST_SIZE**2)
        for name, training, n_train, width, pixels in (
            ("tiny", tiny, gradients.n_train, in_tiny, prod(shape)),
            ("unet", unet, unet.n_train, in_unet, FASHION_MNIST_SIZE**2),
        ):
            params = getattr(self.sample, name)
            n_steps = params.n_steps or training.max_steps
            check_size(f"train_{name}.batch_size x the model's width", min(training.batch_size, n_train), width)
            check_size(f"sample.{name}.batch_size x the model's width", min(params.batch_size, params.n_samples), width)
            check_size(f"sample.{name}.n_samples x pixels", params.n_samples, pixels)
            check_size(f"sample.{name}.n_films x steps x pixels", params.n_films, n_steps + 1, pixels)
        taken = min(self.bound.batch_size, self.bound.n_images)
        check_size("bound.batch_size x the model's width", taken, in_unet)
        check_size("bound.n_images x train_unet.max_steps", self.bound.n_images, unet.max_steps)
        check_size(f"evaluate_tiny.n_bound x {images}", self.evaluate_tiny.n_bound, *shape)
        paper = self.paper
        check_size("paper.batch_size x the model's width", min(paper.batch_size, paper.n_samples), in_unet)
        check_size("paper.n_lambdas x the model's width", paper.n_lambdas, in_unet)
        check_size("paper.n_branches x the model's width", paper.n_branches, in_unet)
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check all of params.yaml; UserError with one line a mistake, naming key, value and what is allowed."""
    try:
        values = YAML(typ="safe", pure=True).load(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    # Beside its own errors ruamel.yaml lets those of Python through: 5000 digits, 2026-13-45, !!bool x, [[[[...
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return validated(Params, values, str(path))


def validated(model: type[Model], values: Any, where: str) -> Model:
    """`values` as a `model`; UserError with one line a mistake, each starting with `where`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(f"{where}: {_describe(mistake)}" for mistake in error.errors())) from None


def select(params: Params, keys: tuple[str, ...]) -> Params:
    """The same params with nothing but `keys` ("seed", "train_tiny", "sample.unet") in them.

    A stage sees only what it declares in dvc.yaml; to read more is an AttributeError, never a stale cache.
    """
    chosen: dict[str, Any] = {}
    for key in keys:
        section, _, rest = key.partition(".")
        value = getattr(params, section)
        if rest:
            value = type(value).model_construct(**dict(chosen.get(section, ())), **{rest: getattr(value, rest)})
        chosen[section] = value
    return Params.model_construct(**chosen)


def _describe(mistake: Any) -> str:
    names = (str(name) for name in mistake["loc"])
    key = ".".join(name if name.isprintable() and len(name) <= 80 else SHOWN.repr(name) for name in names)
    message = mistake["msg"].removeprefix("Value error, ")
    match mistake["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden" | "invalid_key":
            return f"{key} is not a parameter; check its spelling"
        case "value_error":
            return f"{key}: {message}" if key else message
        case "model_type":
            return f"{key or 'all of it'} is {_shown(mistake['input'])}; it should be a section of keys and values"
        case _:
            return f"{key} is {_shown(mistake['input'])}; {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    """Its repr, shortened; Python refuses to spell the longest integers out."""
    try:
        return SHOWN.repr(value)
    except ValueError:
        return "a number of thousands of digits"
