"""The hyper-parameters of Algorithm 1, for any network and data."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator, model_validator

from ddpm.diffusion.loss import Weighting
from ddpm.diffusion.posterior import Prediction
from ddpm.diffusion.schedule import SCHEDULES
from ddpm.run.params import Count, Section
from ddpm.training.gradients import check_micro_batches


def _a_schedule(name: str) -> str:
    if name not in SCHEDULES:
        raise ValueError(f"{name!r} is not a noise schedule; allowed: {', '.join(SCHEDULES)}")
    return name


ScheduleName = Annotated[str, AfterValidator(_a_schedule)]
LrDecay = Literal["none", "linear"]
FLOAT64_EPSILON = 2**-52


class Training(Section):
    """The hyper-parameters of a training run, which are also keys of the `config_dict` of `ddpm.train`."""

    max_steps: Annotated[int, Ge(1), Le(10_000)]
    schedule: ScheduleName
    prediction: Prediction
    weighting: Literal[Weighting, "consistency"]
    step_sampling: Literal["uniform", "stratified"]
    lr: Annotated[float, Gt(0), Le(10)]
    muon_lr: Annotated[float, Gt(0), Le(10)] | None
    lr_decay: LrDecay
    warmup_steps: Annotated[int, Ge(0), Le(10_000_000)]
    max_grad_norm: Annotated[float, Gt(0), Le(1e6)] | None
    adam_betas: Annotated[list[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)]
    ema_decay: Annotated[float, Ge(0), Lt(1)]
    flip: bool
    max_shift: Annotated[int, Ge(0), Lt(64)]
    batch_size: Count
    micro_batches: Annotated[int, Ge(1), Le(1024)]
    epochs: Annotated[float, Gt(0), Le(100_000)]
    log_interval: Count
    img_log_interval: Count
    n_images_to_log: Annotated[int, Ge(1), Le(64)]

    @property
    def most_processes(self) -> int:
        """One per micro-batch."""
        return self.micro_batches

    @model_validator(mode="after")
    def _batch_can_be_cut(self) -> "Training":
        check_micro_batches(self.micro_batches, self.batch_size)
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Training":
        check_schedule(self.schedule, self.max_steps)
        if SCHEDULES[self.schedule](self.max_steps)[-1] == 1:  # alpha_bar_T is 0: zero terminal SNR
            if self.prediction == "eps":
                raise ValueError(
                    f"prediction is eps; schedule {self.schedule} has zero SNR at max_steps, where the noise does not "
                    "determine the image, so use x0, v or mean"
                )
            if self.weighting == "min_snr":
                raise ValueError(
                    f"weighting is min_snr; schedule {self.schedule} has zero SNR at max_steps, a timestep that "
                    "min_snr would not train, so use simple, x0 or bound"
                )
        if self.weighting == "consistency" and self.prediction not in ("x0", "v"):
            raise ValueError(f"prediction is {self.prediction}; weighting consistency needs x0 or v")
        if self.weighting == "bound" and self.max_steps < 2:
            raise ValueError(f"max_steps is {self.max_steps}; weighting bound needs at least 2")
        return self


def check_schedule(name: str, max_steps: int) -> None:
    """Raise ValueError if the noise schedule `name` does not allow this max_steps."""
    alpha_bar = (1 - SCHEDULES[name](max_steps)).cumprod(0)[-1].item()
    if 0 < alpha_bar < FLOAT64_EPSILON:
        raise ValueError(
            f"max_steps is {max_steps}; schedule {name} leaves alpha_bar_T = {alpha_bar:.1g}, which float64 cannot "
            "distinguish from 0 next to 1; use fewer steps"
        )
