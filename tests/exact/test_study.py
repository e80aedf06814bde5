"""The study of samplers: its combinations, their order, options and noise."""

from collections import Counter

import pytest
import torch
from pydantic import ValidationError

from ddpm.diffusion.schedule import SCHEDULES, NoiseSchedule
from ddpm.exact.denoiser import ExactDenoiser
from ddpm.exact.quality import measure
from ddpm.exact.study import ERROR_COLUMNS, StudySamplers, draw, exact_denoiser, sampler_error
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.samplers.ancestral import AncestralOptions

SHAPE = (3, 4, 5)
LONGEST = max(SAMPLERS, key=lambda name: SAMPLERS[name].min_steps)


def study(**changes):
    values = {"n_samples": 42, "max_steps": [21, 30], "schedules": None, "samplers": None, "n_bound": 2}
    return StudySamplers(**(values | changes))


def test_null_selects_every_sampler_and_schedule():
    params = study()
    assert params.chains == [(schedule, T) for schedule in SCHEDULES for T in (21, 30)]
    assert params.cells == [(schedule, name, T) for schedule in SCHEDULES for name in SAMPLERS for T in (21, 30)]
    assert set(params.chosen_modules()) == {SAMPLERS.module(name) for name in SAMPLERS}


def test_cells_keep_the_given_order():
    params = study(schedules=["linear"], samplers=[LONGEST, "ancestral"], max_steps=[9, 3])
    assert params.cells == [("linear", name, T) for name in (LONGEST, "ancestral") for T in (9, 3)]
    assert set(params.chosen_modules()) == {SAMPLERS.module(name) for name in (LONGEST, "ancestral")}


def test_samplers_that_need_more_steps_are_skipped():
    params = study(schedules=["linear"], max_steps=[2, 9])
    too_long = {name for name in SAMPLERS if SAMPLERS[name].min_steps > 2}
    assert LONGEST in too_long  # else the test is vacuous
    assert Counter(name for _, name, _ in params.cells) == {name: 1 + (name not in too_long) for name in SAMPLERS}
    assert all(SAMPLERS[name].min_steps <= T for _, name, T in params.cells)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_steps": [20]}, "max_steps is 20; .* at least 21"),
        ({"max_steps": [1], "schedules": ["linear"]}, "greater than or equal to 2"),
        ({"samplers": ["newton"]}, "'newton' is not a sampler; allowed: "),
        ({"samplers": []}, "at least 1 item"),
        ({"schedules": ["newton"]}, "'newton' is not a noise schedule"),
        ({"ancestral": {"variance": "learned"}}, "ancestral.variance is learned; an exact denoiser does not predict"),
    ],
)
def test_study_rejects_invalid_params(changes, reason):
    with pytest.raises(ValidationError, match=reason):
        study(**changes)


def test_each_row_is_quality_of_samples_of_its_cell():
    params = study(
        schedules=["cosine", "linear"],
        samplers=["ancestral", "ddim"],
        max_steps=[8],
        ancestral={"variance": "fixed_small"},
    )
    rows = [
        dict(zip(ERROR_COLUMNS, row, strict=True)) for row in sampler_error(SHAPE, params, 7, Compute(), Pieces(None))
    ]
    assert [(row["schedule"], row["sampler"], row["max_steps"]) for row in rows] == params.cells
    options = {"ancestral": AncestralOptions(variance="fixed_small"), "ddim": None}
    for row in rows:
        schedule = NoiseSchedule(8, betas=SCHEDULES[row["schedule"]](8))
        streams = [generator(7, "samples", i) for i in range(42)]
        model = ExactDenoiser(SHAPE, schedule, "x0")
        *_, x = sample_steps(model, streams, sampler=row["sampler"], options=options[row["sampler"]])
        assert {name: row[name] for name in vars(measure(x))} == vars(measure(x))


def test_sampler_options_change_the_samples():
    samples = {}
    for variance in ("fixed_small", "fixed_large"):
        params = study(schedules=["cosine"], samplers=["ancestral"], max_steps=[8], ancestral={"variance": variance})
        (samples[variance],) = sampler_error(SHAPE, params, 7, Compute(), Pieces(None))
    assert samples["fixed_small"] != samples["fixed_large"]


def test_finished_cells_are_not_redrawn(monkeypatch):
    params, pieces = study(schedules=["cosine"], samplers=["ddim"], max_steps=[4, 5]), Pieces(None)
    first = [*sampler_error(SHAPE, params, 7, Compute(), pieces)]
    monkeypatch.setattr("ddpm.exact.study.draw", lambda *_: pytest.fail("drawn again"))
    assert [*sampler_error(SHAPE, params, 7, Compute(), pieces)] == first


@pytest.mark.parametrize("schedule", ["cosine", "linear_zero_snr"])
def test_noise_of_a_draw_depends_on_seed_and_sample_index_only(schedule):
    model = exact_denoiser(SHAPE, schedule, 6, Compute())
    assert torch.equal(model.noise_schedule.betas, SCHEDULES[schedule](6))
    assert model.prediction == "x0"
    few, many = draw(model, 3, 0, Compute()), draw(model, 5, 0, Compute())
    assert torch.equal(few, many[:3])
    assert not torch.equal(few, draw(model, 3, 1, Compute()))
    for i in range(3):
        *_, x = sample_steps(model, [generator(0, "samples", i)], options=AncestralOptions(variance="fixed_small"))
        assert torch.equal(x[0], few[i])
