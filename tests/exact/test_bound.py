"""The table of bounds: its columns, and that every bound is above the entropy."""

import pytest
from analytic import Told

from ddpm.data.dataset import ImageDataset
from ddpm.data.gradients import gradient_images
from ddpm.diffusion.schedule import NoiseSchedule, cosine_schedule
from ddpm.evaluation.bound import VariationalBound
from ddpm.exact.bound import BOUND_COLUMNS, VARIANCES, bound_metrics, bound_rows
from ddpm.exact.quality import entropy
from ddpm.exact.study import exact_denoiser
from ddpm.images import to_uint8
from ddpm.run.compute import Compute
from ddpm.run.resume.pieces import Pieces
from ddpm.run.seeding import generator

SHAPE = (3, 4, 5)


def gradients(n):
    return ImageDataset(gradient_images(n, SHAPE, generator(0, "images")))


def rows(schedule, max_steps, n=8, pieces=None):
    model = exact_denoiser(SHAPE, schedule, max_steps, Compute())
    found = bound_rows("exact", schedule, model, gradients(n), 3, Compute(), pieces or Pieces(None))
    return [dict(zip(BOUND_COLUMNS, row, strict=True)) for row in found]


def test_rows_match_variational_bound():
    model = exact_denoiser(SHAPE, "cosine", 10, Compute())
    bounds = VariationalBound(model, to_uint8(gradients(8).images), ("fixed_small", "fixed_large"), 3).run()
    found = rows("cosine", 10)
    assert [row["variance"] for row in found] == list(VARIANCES) == list(bounds)
    for row, bound in zip(found, bounds.values(), strict=True):
        assert (row["denoiser"], row["schedule"], row["max_steps"]) == ("exact", "cosine", 10)
        assert (row["bits_per_dim"], row["margin"]) == (bound.bits_per_dim, bound.margin)
        assert {name: row[name] for name in bound.parts} == bound.parts
        assert row["L_0"] + row["L_between"] + row["L_T"] == pytest.approx(row["bits_per_dim"])


def test_conditional_model_is_told_of_its_own_images():
    """The posterior of a known image has variance beta_tilde, so its divergence from the reverse process is 0."""
    model = Told(SHAPE, NoiseSchedule(10, betas=cosine_schedule(10)))
    found = [*bound_rows("told", "cosine", model, gradients(8), 3, Compute(), Pieces(None))]
    small = dict(zip(BOUND_COLUMNS, found[0], strict=True))
    assert (small["variance"], small["L_between"]) == ("fixed_small", pytest.approx(0, abs=1e-3))  # 8-bit rounding


@pytest.mark.parametrize("schedule", ["linear", "cosine", "linear_zero_snr"])
def test_bound_is_above_the_entropy(schedule):
    for row in rows(schedule, 25, n=32):
        # The bound holds for the mean over all images, and the margin (95 %) is for 32. 2.3 margins are 4.5 sigma.
        assert row["bits_per_dim"] + 2.3 * row["margin"] > entropy(4, 5)
        # L_T is the divergence of x_T from pure noise, which only the linear schedule has in 25 steps.
        assert (row["L_T"] > 0.1) == (schedule == "linear")


def test_finished_timesteps_are_not_recomputed(monkeypatch):
    pieces = Pieces(None)
    first = rows("cosine", 5, pieces=pieces)
    monkeypatch.setattr(VariationalBound, "at", lambda *_: pytest.fail("computed again"))
    assert rows("cosine", 5, pieces=pieces) == first


def test_chains_do_not_share_cached_pieces():
    pieces = Pieces(None)
    for schedule, max_steps in (("cosine", 5), ("linear", 5), ("cosine", 6)):
        assert rows(schedule, max_steps, pieces=pieces) == rows(schedule, max_steps)


def test_metric_names_contain_denoiser_and_variance():
    table = [("tiny", "cosine", 9, "fixed_small", 1.5, 0.25, 1.0, 0.5, 0.0)]
    assert bound_metrics(table) == {"tiny_bound_fixed_small": 1.5, "tiny_bound_fixed_small_margin": 0.25}
