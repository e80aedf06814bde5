"""The hyper-parameters of Algorithm 1: valid combinations, and the errors for invalid ones."""

import re

import pytest
from training.small import params

from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.errors import UserError
from ddpm.run.params import validated
from ddpm.training.course import COURSE_DEFAULTS
from ddpm.training.params import Training, check_schedule

REQUIRED = {"max_steps": 50, "lr": 0.01, "batch_size": 8, "epochs": 2.0}


def refusal(**changes):
    with pytest.raises(UserError) as caught:
        validated(Training, COURSE_DEFAULTS | REQUIRED | changes, "params.yaml")
    return str(caught.value)


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_required_params_are_rejected(key):
    values = {name: value for name, value in REQUIRED.items() if name != key}
    with pytest.raises(UserError, match=f"config_dict: {key} is missing"):
        validated(Training, COURSE_DEFAULTS | values, "config_dict")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "sigmoid"}, f"schedule: 'sigmoid' is not a noise schedule; allowed: {', '.join(SCHEDULES)}"),
        ({"max_steps": 0}, "max_steps is 0; input should be greater than or equal to 1"),
        ({"lr": 0.0}, "lr is 0.0; input should be greater than 0"),
        ({"muon_lr": 11.0}, "muon_lr is 11.0; input should be less than or equal to 10"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0; input should be less than 1"),
        ({"adam_betas": [0.9]}, "adam_betas is [0.9]; list should have at least 2 items after validation, not 1"),
        ({"adam_betas": [0.9, 1.0]}, "adam_betas.1 is 1.0; input should be less than 1"),
        ({"prediction": "score"}, "prediction is 'score'; input should be 'eps', 'x0', 'v' or 'mean'"),
        (
            {"weighting": "snr"},
            "weighting is 'snr'; input should be 'simple', 'x0', 'bound', 'min_snr' or 'consistency'",
        ),
        ({"lr_decay": "cosine"}, "lr_decay is 'cosine'; input should be 'none' or 'linear'"),
        ({"step_sampling": "all"}, "step_sampling is 'all'; input should be 'uniform' or 'stratified'"),
        ({"epochs": "2"}, "epochs is '2'; input should be a valid number"),
        ({"batchsize": 8}, "batchsize is not a parameter; check its spelling"),
        (
            {"schedule": "rescaled_linear", "max_steps": 20},
            "max_steps is 20; the rescaled linear schedule needs at least 21",
        ),
        (
            {"schedule": "linear_zero_snr", "max_steps": 1, "prediction": "v"},
            "max_steps is 1; a schedule with zero terminal SNR needs at least 2",
        ),
        (
            {"schedule": "linear_zero_snr"},
            "prediction is eps; schedule linear_zero_snr has zero SNR at max_steps, where the noise does not determine "
            "the image, so use x0, v or mean",
        ),
        (
            {"schedule": "linear_zero_snr", "prediction": "v", "weighting": "min_snr"},
            "weighting is min_snr; schedule linear_zero_snr has zero SNR at max_steps, a timestep that min_snr would "
            "not train, so use simple, x0 or bound",
        ),
        ({"weighting": "consistency"}, "prediction is eps; weighting consistency needs x0 or v"),
        (
            {"weighting": "consistency", "prediction": "mean"},
            "prediction is mean; weighting consistency needs x0 or v",
        ),
        ({"batch_size": 9, "micro_batches": 2}, "micro_batches is 2; it must divide batch_size, which is 9"),
        ({"max_steps": 1, "weighting": "bound"}, "max_steps is 1; weighting bound needs at least 2"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_invalid_params_are_rejected(changes, message):
    assert refusal(**changes) == f"params.yaml: {message}"


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "rescaled_linear", "max_steps": 21},
        {"schedule": "linear_zero_snr", "max_steps": 2, "prediction": "x0", "weighting": "x0"},
        {"schedule": "cosine", "max_steps": 10_000},
        {"schedule": "rescaled_linear", "max_steps": 10_000},
        {"schedule": "linear_zero_snr", "max_steps": 10_000, "prediction": "v"},
        {"max_steps": 2, "weighting": "bound"},
        {"weighting": "consistency", "prediction": "v"},
        {"max_steps": 1},
    ],
    ids=str,
)
def test_limits_are_allowed(changes):
    assert params(**changes)


@pytest.mark.parametrize("max_steps", [100, 1000, 3500, 4000, 10_000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_without_measurable_signal_is_rejected(name, max_steps):
    alpha_bar = NoiseSchedule(max_steps, betas=SCHEDULES[name](max_steps)).alpha_bars[-1].item()
    if alpha_bar > 0 and 1 - alpha_bar == 1:  # in float64
        assert (name, max_steps > 3500) == ("linear", True)
        message = f"max_steps is {max_steps}; schedule {name} leaves alpha_bar_T = {alpha_bar:.1g}, which"
        with pytest.raises(ValueError, match=re.escape(message)):
            check_schedule(name, max_steps)
    else:
        check_schedule(name, max_steps)
