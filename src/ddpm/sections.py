"""The sections of params.yaml, frozen and typed: what each key may be, and what must fit within a section."""

from math import prod
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

Count = Annotated[int, Ge(1), Le(10_000_000)]
Sizes = Annotated[list[Annotated[int, Ge(1), Le(64)]], Len(1, 6)]
Seconds = Annotated[float, Ge(0), Le(86_400)]
Seed = Annotated[int, Ge(0), Lt(2**63)]
FASHION_MNIST_SIZE, FASHION_MNIST_CLASSES = 28, 10
MOST_NUMBERS = 2**28  # in one tensor, 1 GiB in float32; what a machine has beyond that is found out when it runs
MOST_CHANNELS = 2048  # a 3x3 convolution among so many has 38 million weights
LONGEST_LINEAR = 3500  # beyond some 3600 steps, alpha_bar_T is less than float64 can tell from 0 beside 1
LEAST_PAIRS = 125  # of corner colours, for `ddpm.exact.quality.uniformity`
LEAST_SAMPLES = 258  # twice one more than the classifier has features: a covariance for either half of the samples
LEAST_INCEPTION_SAMPLES = 4098  # the same for Inception's 2048
Schedule = Literal["linear", "linear_zero_snr", "rescaled_linear", "cosine"]
Sampler = Literal["ancestral", "ddim", "dpmpp_2m", "dpmpp_3m", "unipc", "heun"]
Variance = Literal["fixed_large", "fixed_small", "learned"]
LEAST_STEPS = {"dpmpp_2m": 2, "dpmpp_3m": 3, "unipc": 3, "heun": 2}  # a solver's order; 1 for the others


def _can_be_shown(img_shape: list[int]) -> list[int]:
    if img_shape[0] not in (1, 3):
        raise ValueError(f"{img_shape} has {img_shape[0]} channels; a picture has 1 (grey) or 3 (colour)")
    return img_shape


def _is_a_path(path: str) -> str:
    if not path or not path.isprintable():
        raise ValueError(f"{path!r} is no path; give printable characters, or null for none")
    return path


def check_size(keys: str, *sizes: int) -> None:
    """ValueError where a tensor of `sizes`, which come from `keys`, has more than MOST_NUMBERS numbers."""
    if prod(sizes) > MOST_NUMBERS:
        raise ValueError(f"{keys} is {' x '.join(map(str, sizes))}; at most {MOST_NUMBERS} numbers are allowed at once")


PathName = Annotated[str, MaxLen(4096), AfterValidator(_is_a_path)]
PictureShape = Annotated[list[Annotated[int, Ge(1), Le(256)]], Len(3, 3), AfterValidator(_can_be_shown)]


class Section(BaseModel):
    """Values as they stand in the file: nothing is converted, nothing may be added."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GenerateGradients(Section):
    img_shape: PictureShape
    n_train: Count
    n_eval: Count

    @model_validator(mode="after")
    def _images_are_gradients(self) -> "GenerateGradients":
        if prod(self.img_shape[1:]) < 2:
            raise ValueError(f"img_shape is {self.img_shape}; a gradient needs at least 2 pixels")
        for name in ("n_train", "n_eval"):
            check_size(f"{name} x img_shape", getattr(self, name), *self.img_shape)
        return self


class DownloadFashionMnist(Section):
    folder: PathName | None
    timeout: Annotated[float, Gt(0), Le(3600)]


class Training(Section):
    """What Algorithm 1 needs to know, whatever the network; `ddpm.train` takes these keys too."""

    max_steps: Annotated[int, Ge(1), Le(10_000)]
    schedule: Schedule
    prediction: Literal["eps", "x0", "v", "mean"]
    weighting: Literal["simple", "x0", "bound", "min_snr"]
    step_sampling: Literal["uniform", "stratified"]
    lr: Annotated[float, Gt(0), Le(10)]
    muon_lr: Annotated[float, Gt(0), Le(10)] | None
    lr_decay: Literal["none", "linear"]
    warmup_steps: Annotated[int, Ge(0), Le(10_000_000)]
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
        if self.schedule.startswith("linear") and self.max_steps > LONGEST_LINEAR:
            raise ValueError(f"max_steps is {self.max_steps}; schedule {self.schedule} takes at most {LONGEST_LINEAR}")
        if self.schedule == "linear_zero_snr" and self.max_steps < 2:
            raise ValueError(f"max_steps is {self.max_steps}; schedule linear_zero_snr needs at least 2")
        if self.schedule == "linear_zero_snr" and self.prediction == "eps":
            raise ValueError(
                "prediction is eps; schedule linear_zero_snr leaves no image at max_steps, so it takes x0, v or mean"
            )
        if self.schedule == "linear_zero_snr" and self.weighting == "min_snr":
            raise ValueError(
                "weighting is min_snr; schedule linear_zero_snr has SNR 0 at max_steps, a step that min_snr would not "
                "train, so it takes simple, x0 or bound"
            )
        if self.weighting == "bound" and self.max_steps < 2:
            raise ValueError(f"max_steps is {self.max_steps}; weighting bound needs at least 2")
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
    max_attention_size: Annotated[int, Ge(1), Le(FASHION_MNIST_SIZE)] | None
    first_skip: bool
    dropout: Annotated[float, Ge(0), Lt(1)]
    learn_variance: bool
    labels: Literal["none", "classes", "clusters"]
    n_clusters: Annotated[int, Ge(1), Le(1000)]
    label_dropout: Annotated[float, Ge(0), Lt(1)]
    n_eval_per_step: Count
    checkpoint_seconds: Seconds

    @model_validator(mode="after")
    def _clusters_have_images(self) -> "TrainUnet":
        if self.labels == "clusters" and self.n_clusters > self.n_train:
            raise ValueError(f"n_clusters is {self.n_clusters}; it cannot exceed n_train, {self.n_train}")
        return self

    @model_validator(mode="after")
    def _variance_can_be_learned(self) -> "TrainUnet":
        if self.learn_variance and self.max_steps < 2:
            raise ValueError(f"max_steps is {self.max_steps}; learn_variance needs at least 2")
        return self

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
        if self.groups == self.channels and factor == FASHION_MNIST_SIZE:
            raise ValueError(f"groups is {self.groups}; where maps end as 1x1, it must be below channels")
        if self.channels * max(self.dim_mults) > MOST_CHANNELS:
            raise ValueError(
                f"channels x dim_mults is {self.channels} x {max(self.dim_mults)}; at most {MOST_CHANNELS} are allowed"
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
    checkpoint_seconds: Seconds


class SampleModel(Section):
    n_samples: Annotated[int, Ge(1), Le(1_000_000)]
    n_films: Annotated[int, Ge(1), Le(64)]
    batch_size: Count
    sampler: Sampler
    n_steps: Annotated[int, Ge(1), Le(10_000)] | None
    spacing: Literal["even", "karras"]
    variance: Variance
    eta: Annotated[float, Ge(0), Le(1)]
    clip_sample: bool
    checkpoint_seconds: Seconds

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
        if self.variance == "learned" and self.sampler != "ancestral":
            raise ValueError(
                f"variance is learned; only sampler ancestral draws noise of that variance, with {self.sampler} take "
                "fixed_large or fixed_small"
            )
        return self


class SampleUnet(SampleModel):
    guidance_scale: Annotated[float, Ge(1), Le(100)]


class Sample(Section):
    tiny: SampleModel
    unet: SampleUnet


class EvaluateTiny(Section):
    n_eval_per_step: Count
    n_samples: Annotated[int, Ge(1), Le(100_000)]
    max_steps: Annotated[list[Annotated[int, Ge(2), Le(10_000)]], Len(1, 12)]  # 2: of the variational bound
    schedules: Annotated[list[Schedule], Len(1, 4)]
    samplers: Annotated[list[Sampler], Len(1, 6)]
    variance: Literal["fixed_large", "fixed_small"]
    n_bound: Annotated[int, Ge(2), Le(10_000)]
    level: Annotated[float, Gt(0), Lt(1)]
    checkpoint_seconds: Seconds

    @model_validator(mode="after")
    def _schedules_have_steps(self) -> "EvaluateTiny":
        if "rescaled_linear" in self.schedules and min(self.max_steps) <= 20:
            raise ValueError(f"max_steps has {min(self.max_steps)}; schedule rescaled_linear needs at least 21")
        for sampler in self.samplers:
            if min(self.max_steps) < (least := LEAST_STEPS.get(sampler, 1)):
                raise ValueError(f"max_steps has {min(self.max_steps)}; sampler {sampler} needs at least {least}")
        return self


class EvaluateUnet(Section):
    n_samples: Annotated[int, Ge(LEAST_SAMPLES), Le(10_000)]
    reference: Literal["test", "held_out"]
    n_train: Annotated[int, Ge(51), Lt(60_000)]
    n_held_out: Annotated[int, Ge(LEAST_SAMPLES), Lt(60_000)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]
    duplicate_quantile: Annotated[float, Gt(0), Lt(1)]
    inception_weights: PathName | None

    @model_validator(mode="after")
    def _covariances_have_images(self) -> "EvaluateUnet":
        for name in ("n_samples", "n_held_out"):
            n, least = getattr(self, name), LEAST_INCEPTION_SAMPLES
            if self.inception_weights is not None and n < least:
                raise ValueError(
                    f"{name} is {n}; with inception_weights it must be at least {least}, since half of as many images "
                    "must have a covariance of 2048 features"
                )
        return self


class Bound(Section):
    n_images: Annotated[int, Ge(2), Le(10_000)]
    stride: Annotated[int, Ge(1), Le(10_000)]
    variances: Annotated[list[Variance], Len(1, 3)]
    clip_sample: bool
    batch_size: Count
    checkpoint_seconds: Seconds

    @model_validator(mode="after")
    def _has_an_interval(self) -> "Bound":
        if self.n_images < 2 * self.stride:
            raise ValueError(
                f"n_images is {self.n_images}; with stride {self.stride} an interval needs at least {2 * self.stride}"
            )
        return self


class Paper(Section):
    n_samples: Annotated[int, Ge(LEAST_SAMPLES), Le(10_000)]
    batch_size: Count
    n_steps: Annotated[int, Ge(1), Le(10_000)] | None
    variance: Variance
    clip_sample: bool
    n_moments: Annotated[int, Ge(2), Le(21)]
    n_films: Annotated[int, Ge(1), Le(32)]
    n_halves: Annotated[int, Ge(2), Le(10_000)]
    split_depths: Annotated[list[Annotated[float, Ge(0), Le(1)]], Len(1, 16)]
    n_split: Annotated[int, Ge(1), Le(8)]
    n_branches: Annotated[int, Ge(1), Le(20)]
    interpolation_depth: Annotated[float, Ge(0), Le(1)]
    coarse_depths: Annotated[list[Annotated[float, Ge(0), Le(1)]], Len(1, 16)]
    n_pairs: Annotated[int, Ge(1), Le(32)]
    n_lambdas: Annotated[int, Ge(2), Le(19)]
    checkpoint_seconds: Seconds


class RenderGrids(Section):
    forward_img_shape: PictureShape
    n_gradients: Annotated[int, Ge(1), Le(64)]
    n_noised: Annotated[int, Ge(1), Le(8)]
    forward_steps: Annotated[list[Annotated[int, Ge(1), Le(10_000)]], Len(1, 8)]
    n_moments: Annotated[int, Ge(1), Le(12)]
    grid_rows: Annotated[int, Ge(1), Le(32)]
    grid_columns: Annotated[int, Ge(1), Le(32)]
    strip_steps: Annotated[int, Ge(2), Le(40)]
