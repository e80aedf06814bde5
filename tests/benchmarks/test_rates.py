"""A minute is a number of steps at a trainee's own steady speed."""

from argparse import Namespace
from itertools import count

import pytest
import torch
from project import REPO

from benchmarks.core import rates as rates_module
from benchmarks.core.rates import Ours, Rates, measure_once, of_length, rate_options, steps_in
from ddpm.data.dataset import ImageDataset
from ddpm.errors import UserError
from ddpm.run.compute import Compute
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run

IMAGES = ImageDataset(torch.zeros(64, 1, 2, 2, dtype=torch.uint8))
RATE = {"seconds_per_image": str(1 / 64), "batch_size": "64", "set_up_seconds": "6.0", "set_up_counts": "False"}


def test_steps_in_minutes_use_steady_speed():
    assert steps_in(10, RATE) == 600
    assert steps_in(10, RATE | {"set_up_counts": "True"}) == 594
    assert steps_in(10, RATE | {"seconds_per_image": str(1 / 32)}) == 300
    assert steps_in(0.001, RATE) == 1  # at least one


def asked(*words):
    return rate_options("", ["toy"]).parse_args([*words, "--rounds", "3", "--seconds", "0.01"])


@pytest.fixture
def rates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Rates(tmp_path / "rates.csv")


@pytest.mark.parametrize(("phase", "measured"), [("all", [1, 1]), ("rate", [1, 2]), ("run", [0, 0])])
def test_rates_are_measured_on_request_or_when_missing(rates, toy, monkeypatch, phase, measured):
    days = (f"2026-01-0{day}" for day in count(1))
    monkeypatch.setattr(
        "benchmarks.core.rates.datetime", Namespace(now=lambda _: Namespace(isoformat=lambda **_: next(days)))
    )
    for n_rows in measured:
        rates.measure(asked(phase), [toy], IMAGES)
        assert len(rates.rows()) == n_rows


def test_rate_is_median_of_rounds_for_its_settings(rates, toy, monkeypatch):
    rounds = iter([(9.0, 0.4, 7), (3.0, 0.2, 7), (2.0, 0.3, 7)])
    monkeypatch.setattr("benchmarks.core.rates.measure_once", lambda *_: next(rounds))
    rates.measure(asked("rate"), [toy], IMAGES)
    row = rates.of(toy)
    assert float(row["seconds_per_image"]) == pytest.approx(0.3 / 2)
    assert float(row["slowest"]) == pytest.approx(0.4 / 0.3)
    assert (float(row["set_up_seconds"]), row["set_up_counts"], row["parameters"]) == (3.0, "False", "7")
    rates.add({"contender": "toy", "settings": "one", "measured": "later"}, {"seconds_per_image": 9.0})
    assert rates.of(toy)["seconds_per_image"] == "9.0"  # the newest
    toy.settings = "two"
    with pytest.raises(UserError, match="no rate for toy"):
        rates.of(toy)


def test_first_steps_count_as_set_up(toy):
    """After 5 seconds of set-up, steps take 10, 10, 1, 1, ... seconds."""
    now = 0.0

    class Slow(type(toy)):
        def start(self, train, n_steps, seed):
            nonlocal now
            now += 5.0
            return super().start(train, n_steps, seed)

        def _steps(self, *arguments):
            nonlocal now
            for step in super()._steps(*arguments):
                now += 10.0 if step <= 2 else 1.0
                yield step

    slow = Slow()
    assert measure_once(slow, IMAGES, 3.0, lambda: now) == (15.0, 1.0, 1)
    assert slow.taken == [1, 2, 3, 4, 5]


def test_warmup_scales_with_run_length():
    params = Namespace(epochs=2.0, warmup_steps=50, batch_size=10)  # 2,000 steps of 10,000 images
    assert of_length(params, 10_000, 2000) == {"epochs": 2.0, "warmup_steps": 50}
    assert of_length(params, 10_000, 500) == {"epochs": 0.5, "warmup_steps": 12}


@pytest.mark.parametrize("words", [["--only", "me"], ["--rounds", "0"], ["--seconds", "nan"], ["walk"]])
def test_invalid_options_are_rejected(words, capsys):
    with pytest.raises(SystemExit):
        rate_options("", ["toy"]).parse_args(words)
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_set_up_counts_if_a_conditioning_is_learned(monkeypatch):
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(rates_module, "settings", lambda *_: "digest")  # reads the data, which may be missing
    for conditioning, counts in ((None, False), ("clusters", True)):
        assert Ours("ours", {"train_unet": {"conditioning": conditioning}}).set_up_counts == counts


def test_training_is_that_of_the_stage_with_its_own_seed(monkeypatch):
    """64 images in batches of 16: 4 steps in an epoch."""
    monkeypatch.chdir(REPO)
    asked = []
    monkeypatch.setattr(rates_module, "settings", lambda *_: "digest")
    monkeypatch.setattr(rates_module, "build_model", lambda *given: asked.append(given))
    for name in ("start_training", "training_steps", "examples"):
        monkeypatch.setattr(rates_module, name, lambda *_: None)
    Ours("ours", {"train_unet": {"batch_size": 16}}).start(IMAGES, 6, 5)
    [(params, train, seed)] = asked
    assert (params.epochs, train) == (1.5, IMAGES)
    assert seed == StageRun("train_unet", None, 5, Compute(), Run()).seed
