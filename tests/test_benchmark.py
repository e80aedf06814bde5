"""The benchmark's own parts: its clock, what it makes of rows, and that nothing is made twice. No peers are needed."""

import sys
from itertools import islice
from math import sqrt

import pytest
import torch
from project import REPO
from ruamel.yaml import YAML
from torch import nn

from ddpm import recipes
from ddpm.run.params import load_params
from ddpm.errors import UserError
from ddpm.run.resume.state import TrainingState

sys.path.append(str(REPO / "benchmarks"))
import leads
import minutes
import race
from contenders import DRAW_BATCH, Own, fitted, own
from report import BEGIN, END, HEADINGS, best_peer, curves, figure, insert, markdown, time_to, verdicts
from watch import Enough, Keeper, Stopwatch


def row(contender, after, score, seed=0):
    return {
        "contender": contender,
        "minutes": f"{after:g}",
        "seed": str(seed),
        "fid_fashion_cnn": str(score),
        "class_distance": "0.25",
        "precision": "0.9",
        "recall": "0.6",
        "n_samples": "1024",
        "extractor": "abc",
    }


# Ours falls as 8 / minutes, a straight line on log scales.
ROWS = [row("ours", t, 8 / t) for t in (1, 2, 10)] + [row("diffusers", t, 40 / t) for t in (10, 20)]
FLOOR = row("real images", 0, 0.05)


def test_a_minute_is_sixty_seconds_of_the_contenders_own_speed():
    rate = {"seconds_per_image": 1 / 64, "batch_size": 64, "set_up_seconds": 6.0, "set_up_counts": False}
    assert race.steps(10, rate) == 600
    assert race.steps(10, rate | {"set_up_counts": True}) == 594
    assert race.steps(10, rate | {"seconds_per_image": 1 / 32}) == 300
    assert race.steps(0.001, rate) == 1  # at least one


def test_warm_up_and_ema_keep_their_shares_of_the_run():
    params = load_params(REPO / "params.yaml").train_unet
    params = params.model_copy(update={"epochs": 2.0, "ema_decay": 0.99, "warmup_steps": 50})
    short, same = fitted(params, 500, per_epoch=1000), fitted(params, 2000, per_epoch=1000)
    assert (same.ema_decay, same.warmup_steps) == (pytest.approx(0.99), 50)
    assert 1 / (1 - short.ema_decay) == pytest.approx(25)  # 100 steps of 2000 are 25 of 500
    assert short.warmup_steps == 12
    assert fitted(params, 5, per_epoch=1000).ema_decay == 0.0  # a memory of less than a step


def test_what_leaves_the_result_as_it_is_leaves_the_digest_too():
    params = load_params(REPO / "params.yaml")

    def digest(**changes):
        training = params.train_unet.model_copy(update=changes)
        return Own("ours", params.model_copy(update={"train_unet": training})).digest()

    assert digest(checkpoint_seconds=1.0, log_interval=3) == digest()
    assert digest(lr=0.5) != digest()
    with pytest.raises(UserError, match="labels is classes"):
        digest(labels="classes")


def test_time_to_a_score_lies_on_the_line_of_the_logs():
    ours = curves(ROWS)["ours"]
    assert time_to(ours, 8 / sqrt(2)) == (pytest.approx(sqrt(2)), False)
    assert time_to(ours, 2.0) == (pytest.approx(4), False)
    assert time_to(ours, 8.0) == (1, True)
    assert time_to(ours, 100.0) == (1, True)  # it may have been there earlier
    assert time_to(ours, 0.1) is None


def test_the_ratios():
    found = curves(ROWS)
    assert best_peer(found, 20) == ("diffusers", 2.0)
    assert best_peer(found, 5) is None
    faster, better = verdicts(found, 0.05)
    assert "after 4 minutes: 5 times as fast." in faster
    assert "0.75 above real images" in better
    assert "5.27 times as far" in better  # (4 - 0.05) / (0.8 - 0.05)
    assert verdicts(curves(ROWS[:3]), 0.05) == []


def test_the_table_has_a_cell_for_each_minute_and_the_spread_of_seeds(tmp_path):
    rate = {
        "settings": dict(zip(HEADINGS, "pnoaws", strict=True)),
        "seconds_per_image": 0.01,
        "parameters": 2_000_000,
        "set_up_seconds": 3.2,
        "date": "2026-01-02",
    }
    rates = {"machine": "a machine", "contenders": {"ours": rate, "diffusers": rate}}
    text = markdown([*ROWS, row("ours", 10, 1.0, seed=1)], FLOOR, rates)
    assert "| ours | p | n | o | a | w | s | 2,000,000 | 100 | 3 |" in text
    assert "| ours | 8 | 4 | 0.9 ± 0.14 |  | 25% after 10 | 90% after 10 | 60% after 10 |" in text
    assert "| diffusers |  |  | 4 | 2 | 25% after 20 | 90% after 20 | 60% after 20 |" in text
    assert figure(ROWS, FLOOR, "a machine").axes[0].get_xscale() == "log"
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    insert(page, text)
    insert(page, text)  # again and again
    assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(UserError, match="lacks"):
        insert(page, text)


class Toy:
    """Adds the number of the step to a weight: after n steps it is n (n + 1) / 2, unless one was missed or repeated."""

    name, batch_size, planned, settings, facts = "ours", 1, False, {"project": "toy"}, {}
    set_up_counts = False

    def digest(self):
        return "toy"

    def train(self, _images, n_steps, _seed, watch, stop_at=None):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        state = TrainingState({"model": model}, [])
        watch.start(state)
        self.steps_made = 0
        for step in islice(range(state.step + 1, n_steps + 1), stop_at):
            with torch.no_grad():
                model.weight += step
            state.step = step
            self.steps_made += 1
            watch.after_step(state, step == n_steps)
        self.weight, self.drawn = model.weight.item(), 0
        return self.draw

    def draw(self, number, seed):
        self.drawn += 1
        return torch.full((DRAW_BATCH, 1, 2, 2), number + 10 * seed, dtype=torch.uint8)


def test_a_killed_training_goes_on_and_a_longer_one_passes_through(tmp_path):
    toy = Toy()
    toy.train(None, 5, 0, Keeper(tmp_path, 5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5.safetensors"]
    toy.train(None, 20, 0, Keeper(tmp_path, 20, every=0), stop_at=4)  # goes on from 5, is killed after 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["5.safetensors", "9.part.safetensors"]
    toy.train(None, 20, 0, Keeper(tmp_path, 20))
    assert (toy.weight, toy.steps_made) == (20 * 21 / 2, 11)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20.safetensors", "5.safetensors"]
    toy.train(None, 5, 0, Keeper(tmp_path, 5))  # done long ago
    assert (toy.weight, toy.steps_made) == (5 * 6 / 2, 0)


def test_the_stopwatch_ends_a_training_and_knows_its_step():
    watch = Stopwatch(seconds=0.0)
    with pytest.raises(Enough):
        Toy().train(None, 100, 0, watch)
    assert watch.step_seconds > 0
    assert watch.parameters == 1


def test_samples_that_are_there_are_not_drawn_again(tmp_path):
    toy, path = Toy(), tmp_path / "samples.safetensors"
    draw = toy.train(None, 1, 0, Keeper(tmp_path, 1))
    first, _ = race.drawn(draw, DRAW_BATCH + 1, 3, path)
    assert (len(first), toy.drawn) == (DRAW_BATCH + 1, 2)
    more, _ = race.drawn(draw, 3 * DRAW_BATCH, 3, path)
    assert toy.drawn == 3
    assert torch.equal(more[: len(first)], first)
    assert more[-1].unique().tolist() == [32]  # batch 2, seed 3


def test_rows_that_are_there_are_not_made_again(tmp_path, monkeypatch):
    made, toy = [], Toy()
    monkeypatch.setattr(minutes, "REPORTS", tmp_path)
    monkeypatch.chdir(REPO)
    images = torch.zeros(6000, 1, 2, 2, dtype=torch.uint8)
    monkeypatch.setattr(minutes, "load", lambda _: race.Images(images, images, images))
    monkeypatch.setattr(minutes, "chosen", lambda *_: {"ours": toy})
    monkeypatch.setattr(minutes, "Evaluator", lambda *_: type("Evaluator", (), {"extractor": "abc"}))
    monkeypatch.setattr(minutes, "report", lambda *_: None)
    score = dict.fromkeys(race.COLUMNS[len(race.KEY) :], "1.0")
    monkeypatch.setattr(race.Race, "make", lambda _, cell, *__: made.append(cell["minutes"]) or cell | score)

    def work(*words):
        monkeypatch.setattr(sys, "argv", ["minutes.py", *words])
        minutes.work(minutes.arguments())

    with pytest.raises(UserError, match="no rate for ours"):
        work("run")
    work("rate", "--rounds", "1", "--seconds", "0.001")
    work("run", "--minutes", "1", "2", "--seeds", "0")
    assert made == ["0", "1", "2"]  # real images first
    work("run", "--minutes", "1", "2", "5", "--seeds", "0")
    assert made[3:] == ["5"]
    work("run", "--minutes", "5", "--seeds", "0", "1")
    assert made[4:] == ["5"]


def test_each_lead_is_one_change_of_the_default(monkeypatch):
    monkeypatch.chdir(REPO)
    contenders = {name: own(name, changed, name) for name, changed in leads.LEADS.items()}
    assert len({contender.digest() for contender in contenders.values()}) == len(leads.LEADS)
    default = set(recipes.overrides(YAML(typ="safe", pure=True).load(REPO / "params.yaml"))[1::2])
    for changed in leads.LEADS.values():
        assert default.isdisjoint(recipes.overrides(changed)[1::2])


def test_a_lead_is_told_from_the_default_only_beyond_the_spread_of_seeds():
    default = [3.0, 3.1, 3.2]  # standard deviation 0.1, so standard error of a difference 0.082 with as much beside it
    assert leads.verdict([2.6, 2.7, 2.8], default) == " (better)"  # t = -4.9
    assert leads.verdict([2.9, 3.0, 3.1], default) == " (the same)"  # t = -1.2
    assert leads.verdict([3.4, 3.5, 3.6], default) == " (worse)"
    assert leads.verdict([9.0], default) == ""


def test_the_table_of_leads_has_a_line_for_each_that_was_run():
    names = ["the default", "v"]
    rows = [row(name, 2, score + seed / 10, seed) for name, score in zip(names, (3, 4), strict=True) for seed in (0, 2)]
    text = leads.table(rows, FLOOR, dict.fromkeys(names, 0.01))
    assert "| 2 | the default | - | 100 | 3.1 ± 0.14 | 90% | 60% |" in text
    assert "| 2 | v | train_unet.prediction=v | 100 | 4.1 ± 0.14 (worse) | 90% | 60% |" in text
    assert "min_snr" not in text


@pytest.mark.parametrize("words", [["--n-samples", "5"], ["--minutes", "0"], ["--only", "me"], ["--seeds", "-1"]])
def test_a_bad_option_is_one_line(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["minutes.py", *words])
    with pytest.raises(SystemExit):
        minutes.arguments()
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
