"""The registry of samplers: options, and that docs/samplers.md agrees with each file."""

import re

import pytest
import torch
from analytic import Linear, streams
from project import REPO

from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sampler import SAMPLERS, Noise
from ddpm.sampling.spacing import SPACINGS, timesteps

PAGE = (REPO / "docs/samplers.md").read_text()


def row(name: str) -> list[str]:
    """The cells of the page's first row that begins with `name`."""
    (line, *_) = re.findall(rf"^\| `{name}` \|.*\|$", PAGE, re.MULTILINE)
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.parametrize("name", SAMPLERS)
def test_docs_match_evaluations_min_steps_and_options(name):
    sampler, (_, _, evaluations, least, options, _) = SAMPLERS[name], row(name)
    assert {"n": 9, "2n - 1": 17}[evaluations] == sampler.evaluations(9)
    assert int(least) == sampler.min_steps
    assert set(sampler.Options.model_fields) <= set(re.findall(r"`(\w+)`", options))
    assert bool(options) == bool(sampler.Options.model_fields)


@pytest.mark.parametrize("name", SPACINGS)
def test_docs_match_timesteps_of_each_spacing(name):
    kept = timesteps(NoiseSchedule(200, betas=cosine_schedule(200)), 10, name)
    assert row(name)[-1] == ", ".join(map(str, kept[1:].tolist()))


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_runs_with_its_min_steps(name):
    model, least = Linear(20), SAMPLERS[name].min_steps
    *_, x = sample_steps(model, streams(1), timesteps(model.noise_schedule, least), name)
    assert x.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_stochastic_samplers_draw_noise(name):
    sampler, taken = SAMPLERS[name], []
    noise: Noise = lambda: taken.append(1) or torch.zeros(1, 3, 4, 5)  # noqa: E731
    schedule = NoiseSchedule(20)
    options = {"eta": 1.0} if "eta" in sampler.Options.model_fields else {}
    list(sampler.walk(lambda x, _: x, torch.ones(1, 3, 4, 5), schedule, noise, sampler.Options(**options)))
    assert bool(taken) == sampler.stochastic
