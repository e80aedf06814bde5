"""params.yaml as frozen, typed sections: an unknown key or a bad value is an error that names it."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ddpm.errors import UserError

Count = Annotated[int, Ge(1), Le(10_000_000)]
Sizes = Annotated[list[Annotated[int, Ge(1), Le(64)]], Len(1, 6)]
Seconds = Annotated[float, Ge(0), Le(86_400)]
Seed = Annotated[int, Ge(0), Lt(2**63)]
FASHION_MNIST_SIZE = 28
LEAST_STEPS = {"dpmpp_2m": 2, "dpmpp_3m": 3, "unipc": 3, "heun": 2}  # a solver's order; 1 for the others
Model = TypeVar("Model", bound=BaseModel)


def _can_be_shown(img_shape: list[int]) -> list[int]:
    if img_shape[0] not in (1, 3):
        raise ValueError(f"{img_shape} has {img_shape[0]} channels; a picture has 1 (grey) or 3 (colour)")
    return img_shape


PictureShape = Annotated[list[Annotated[int, Ge(1), Le(256)]], Len(3, 3), AfterValidator(_can_be_shown)]


class Section(BaseModel):
    """Values as they stand in the file: nothing is converted, nothing may be added."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GenerateGradients(Section):
    img_shape: PictureShape
    n_train: Count
    n_eval: Count


class DownloadFashionMnist(Section):
    folder: str | None
    timeout: Annotated[float, Gt(0), Le(3600)]


class Training(Section):
    """What Algorithm 1 needs to know, whatever the network; `ddpm.train` takes these keys too."""

    max_steps: Annotated[int, Ge(1), Le(10_000)]
    schedule: Literal["linear", "rescaled_linear", "cosine"]
    prediction: Literal["eps", "x0", "v"]
    lr: Annotated[float, Gt(0), Le(10)]
    muon_lr: Annotated[float, Gt(0), Le(10)] | None
    lr_decay: Literal["none", "linear"]
    warmup_steps: Annotated[int, Ge(0)]
    adam_betas: Annotated[list[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)]
    ema_decay: Annotated[float, Ge(0), Lt(1)]
    batch_size: Count
    epochs: Annotated[float, Gt(0), Le(100_000)]
    log_interval: Count
    img_log_interval: Count
    n_images_to_log: Annotated[int, Ge(1), Le(64)]

    @model_validator(mode="after")
    def _schedule_has_steps(self) -> "Training":
        if self.schedule == "rescaled_linear" and self.max_steps <= 20:
            raise ValueError(f"max_steps is {self.max_steps}; schedule rescaled_linear needs at least 21")
        return self


class TrainTiny(Training):
    hidden_size: Annotated[int, Ge(1), Le(65_536)]
    n_eval_per_step: Count
    checkpoint_seconds: Seconds


class TrainUnet(Training):
    n_train: Annotated[int, Ge(1), Lt(60_000)]
    n_eval: Annotated[int, Ge(1), Lt(60_000)]
    channels: Annotated[int, Ge(1), Le(1024)]
    dim_mults: Sizes
    groups: Annotated[int, Ge(1), Le(1024)]
    heads: Annotated[int, Ge(1), Le(1024)]
    patch_size: Annotated[int, Ge(1), Le(FASHION_MNIST_SIZE)]
    max_attention_size: Annotated[int, Ge(1)] | None
    n_eval_per_step: Count
    checkpoint_seconds: Seconds

    @model_validator(mode="after")
    def _network_can_be_built(self) -> "TrainUnet":
        if self.n_train + self.n_eval > 60_000:
            raise ValueError(f"n_train + n_eval is {self.n_train + self.n_eval}; the training split has 60000 images")
        for name, divisor in (("groups", self.groups), ("heads", self.heads), ("2 (sines and cosines)", 2)):
            if self.channels % divisor:
                raise ValueError(f"channels is {self.channels}; it must be a multiple of {name}, {divisor}")
        factor = self.patch_size * 2 ** (len(self.dim_mults) - 1)
        if FASHION_MNIST_SIZE % factor:
            raise ValueError(
                f"patch_size {self.patch_size} and {len(self.dim_mults)} dim_mults need an image size that is a "
                f"multiple of {factor}; FashionMNIST has {FASHION_MNIST_SIZE}"
            )
        return self


class TrainClassifier(Section):
    n_train: Annotated[int, Ge(2), Le(60_000)]
    batch_size: Annotated[int, Ge(2), Le(10_000)]
    epochs: Annotated[int, Ge(1), Le(1000)]
    lr: Annotated[float, Gt(0), Le(10)]
    weight_decay: Annotated[float, Ge(0), Le(1)]
    label_smoothing: Annotated[float, Ge(0), Lt(1)]
    max_shift: Annotated[int, Ge(0), Lt(FASHION_MNIST_SIZE)]


class SampleModel(Section):
    n_samples: Annotated[int, Ge(1), Le(1_000_000)]
    n_films: Annotated[int, Ge(1), Le(64)]
    batch_size: Count
    sampler: Literal["ancestral", "ddim", "dpmpp_2m", "dpmpp_3m", "unipc", "heun"]
    n_steps: Annotated[int, Ge(1), Le(10_000)] | None
    variance: Literal["fixed_large", "fixed_small"]
    eta: Annotated[float, Ge(0), Le(1)]
    clip_sample: bool

    @model_validator(mode="after")
    def _films_are_samples(self) -> "SampleModel":
        if self.n_films > self.n_samples:
            raise ValueError(f"n_films is {self.n_films}; it cannot exceed n_samples, {self.n_samples}")
        return self

    @model_validator(mode="after")
    def _sampler_has_what_it_needs(self) -> "SampleModel":
        least = LEAST_STEPS.get(self.sampler, 1)
        if self.n_steps is not None and self.n_steps < least:
            raise ValueError(f"n_steps is {self.n_steps}; sampler {self.sampler} needs at least {least}")
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta is {self.eta}; only sampler ddim has it, with {self.sampler} it must be 0")
        return self


class Sample(Section):
    tiny: SampleModel
    unet: SampleModel


class EvaluateTiny(Section):
    n_eval_per_step: Count
    n_samples: Annotated[int, Ge(1), Le(100_000)]
    max_steps: Annotated[list[Annotated[int, Ge(1), Le(10_000)]], Len(1, 12)]
    schedules: Annotated[list[Literal["linear", "rescaled_linear", "cosine"]], Len(1, 3)]
    variance: Literal["fixed_large", "fixed_small"]
    level: Annotated[float, Gt(0), Lt(1)]

    @model_validator(mode="after")
    def _schedules_have_steps(self) -> "EvaluateTiny":
        if "rescaled_linear" in self.schedules and min(self.max_steps) <= 20:
            raise ValueError(f"max_steps has {min(self.max_steps)}; schedule rescaled_linear needs at least 21")
        return self


class EvaluateUnet(Section):
    n_samples: Count
    reference: Literal["test", "held_out"]
    n_train: Annotated[int, Ge(51), Lt(60_000)]
    n_held_out: Annotated[int, Ge(1), Lt(60_000)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]
    duplicate_quantile: Annotated[float, Gt(0), Lt(1)]


class RenderGrids(Section):
    forward_img_shape: PictureShape
    n_gradients: Annotated[int, Ge(1), Le(64)]
    n_noised: Annotated[int, Ge(1), Le(8)]
    forward_steps: Annotated[list[Annotated[int, Ge(1), Le(10_000)]], Len(1, 8)]
    n_moments: Annotated[int, Ge(1), Le(12)]
    grid_rows: Annotated[int, Ge(1), Le(32)]
    grid_columns: Annotated[int, Ge(1), Le(32)]
    strip_steps: Annotated[int, Ge(2), Le(40)]


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


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check all of params.yaml; UserError with one line a mistake, naming key, value and what is allowed."""
    try:
        values = YAML(typ="safe", pure=True).load(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML:\n{error}") from None
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
        chosen[section] = type(value).model_construct(**{rest: getattr(value, rest)}) if rest else value
    return Params.model_construct(**chosen)


def _describe(mistake: Any) -> str:
    key = ".".join(map(str, mistake["loc"]))
    message = mistake["msg"].removeprefix("Value error, ")
    match mistake["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            return f"{key} is not a parameter; check its spelling"
        case "value_error":
            return f"{key}: {message}" if key else message
        case _:
            return f"{key} is {mistake['input']!r}; {message[0].lower()}{message[1:]}"
