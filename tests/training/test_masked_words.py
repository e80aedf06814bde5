"""The text encoder on languages with a known best guess for a masked word: training gets close to it."""

import pytest
import torch

from ddpm.captions.vocabulary import LENGTH, PADDING, SIZE
from ddpm.conditioning.text import TextEncoder
from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.run.seeding import generator, global_stream
from ddpm.training.masked_words import MASKED, MaskedWords, TrainText, fit_masked_words, guessed, masks

QUICK = {"batch_size": 64, "epochs": 20, "lr": 0.01}


def new():
    with global_stream(0, "init"):
        return MaskedWords(TextEncoder(32, layers=2, heads=4))


def rows_of(words):
    return torch.nn.functional.pad(words, (0, LENGTH - words.shape[1]))


def paired(n=600):
    """The second half of a caption repeats the first in other words, so that each word determines another."""
    first = torch.randint(1, 9, (n, 4), generator=generator(0, "words"))
    return rows_of(torch.cat((first, first + 8), dim=1))


def coins(n=600):
    """Each word is 1 with probability 3/4, else 2: a guess is right at most 3/4 of the time."""
    return rows_of(1 + (torch.rand(n, 8, generator=generator(0, "coins")) < 0.25).long())


def test_training_learns_what_other_words_determine():
    model = new()
    losses = fit_masked_words(model, TrainText(**QUICK), paired(1500))
    assert losses[-1][1] < losses[0][1] / 2
    # A masked word's partner is also masked with probability 0.2. Then one guess in eight is right, so 0.825 in all.
    # Some 2,400 words are masked: five standard errors are 0.04.
    assert abs(guessed(model, paired(1500), 1) - 0.825) < 0.04


def test_training_does_not_beat_chance_on_independent_words():
    model = new()
    fit_masked_words(model, TrainText(**QUICK | {"epochs": 5}), coins())
    assert abs(guessed(model, coins(4000), 1) - 0.75) < 0.03  # 6,400 masked words: five standard errors


def test_mask_covers_its_share_of_words_and_no_padding():
    rows = paired(5000)
    masked = masks(rows, generator(0, "mask"))
    assert not masked[rows == PADDING].any()
    # 40,000 words: five standard errors
    assert abs(masked[rows != PADDING].double().mean() - MASKED) < 0.01


def test_masked_word_does_not_affect_output():
    model = new().eval()
    rows = paired(2)
    masked = torch.zeros_like(rows, dtype=torch.bool)
    masked[:, 2] = True
    other = rows.clone()
    other[:, 2] = 17
    assert torch.equal(model(rows, masked), model(other, masked))


def test_each_word_is_guessed_from_the_vector_in_its_place():
    model, rows = new().eval(), paired(2)
    model.encoder.blocks = torch.nn.Identity()  # without attention, a word affects its own vector only
    other = rows.clone()
    other[:, 2] = 17
    nothing = torch.zeros_like(rows, dtype=torch.bool)
    changed = (model(rows, nothing) != model(other, nothing)).any(2)
    assert changed.nonzero()[:, 1].tolist() == [2, 2]


def test_loss_is_mean_over_masked_words_at_decaying_rate(monkeypatch):
    rates, model, rows, scores = [], new(), paired(100), torch.linspace(-3, 3, SIZE)
    model.guess.weight.data.zero_()
    model.guess.bias.data.copy_(scores)  # the same guess for every word, which is never improved
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: rates.append(self.param_groups[0]["lr"]))
    losses = fit_masked_words(model, TrainText(batch_size=32, epochs=2, lr=0.01), rows, seed=5)
    nats, expected = scores.exp().sum().log() - scores, []
    for step, chosen in zip(range(1, 9), batches(100, 32, 5), strict=False):
        batch = rows[chosen]
        expected.append(nats[batch[masks(batch, generator(5, "mask", step))]].mean().item())
    means = [sum(expected[:4]) / 4, sum(expected[4:]) / 4]
    assert [loss for _, loss in losses] == pytest.approx(means, rel=1e-5)
    assert rates == pytest.approx([0.01 * (1 - done / 8) for done in range(8)])
    assert not model.training


def test_same_seed_gives_the_same_bits():
    few = TrainText(batch_size=64, epochs=1, lr=0.01)
    models = [new() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        fit_masked_words(model, few, paired(), seed)
    weights = [model.guess.weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_divergence_raises_user_error():
    model = new()
    model.guess.bias.data[3] = float("nan")
    with pytest.raises(UserError, match=r"training diverged: the loss at step 1 of 20, .* is nan, with lr 0.01"):
        fit_masked_words(model, TrainText(batch_size=64, epochs=2, lr=0.01), paired())
