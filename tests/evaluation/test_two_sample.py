"""The classifier two-sample test on sets with known optimal AUC, and its AUC against SciPy's."""

import pytest
import torch
from scipy.stats import mannwhitneyu

from ddpm.evaluation.two_sample import as_they_are, auc, high_pass, in_16_levels, learn, two_sample
from ddpm.images import to_uint8


def noise(n, seed, low=0, high=256):
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, 1, 8, 8), generator=stream).to(torch.uint8)


def test_auc_matches_mann_whitney_statistic():
    stream = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, generator=stream).round(decimals=1), torch.randn(30, generator=stream).round(decimals=1) - 1
    expected = mannwhitneyu(a.numpy(), b.numpy()).statistic / (40 * 30)  # with ties
    assert auc(a, b)[0] == pytest.approx(expected)


def test_auc_variance_matches_spread_over_sets():
    stream = torch.Generator().manual_seed(1)
    found = [auc(torch.randn(60, generator=stream) + 1, torch.randn(50, generator=stream)) for _ in range(400)]
    values, variances = (torch.tensor(column) for column in zip(*found, strict=True))
    # The spread of 400 values has a relative standard error of 1 / sqrt(2 * 400) = 3.5 %: within 4 of them.
    assert variances.mean().sqrt().item() == pytest.approx(values.std().item(), rel=0.14)


def test_auc_is_half_for_sets_of_one_distribution():
    # Over 5 pairs, the mean AUC is 1/2 within 4 standard errors: each of 10 folds judges 60 + 60 images, sd 0.053.
    values = [two_sample(noise(120, 2 * i), noise(120, 2 * i + 1), as_they_are, 6, i).value for i in range(5)]
    assert sum(values) / 5 == pytest.approx(0.5, abs=4 * 0.053 / 10**0.5)


def test_learnable_difference_is_detected():
    assert two_sample(noise(120, 0, high=150), noise(120, 1), as_they_are, 12, 0).value > 0.95


def test_memorised_noise_does_not_raise_auc():
    """Noise can be memorised: a network judging its training images would tell the sets apart."""
    found = two_sample(noise(60, 0), noise(60, 1), as_they_are, 12, 3)
    assert found.value < 0.75  # 0.5 + 4 standard errors of 0.053


def test_training_folds_are_disjoint_and_cover_all_images(monkeypatch):
    learnt = []

    def recorded(x, y, epochs, seed):
        learnt.append({(bytes(image.numpy()), bool(label)) for image, label in zip(x, y, strict=True)})
        return learn(x, y, epochs, seed)

    monkeypatch.setattr("ddpm.evaluation.two_sample.learn", recorded)
    sets = noise(20, 0), noise(21, 1)
    two_sample(*sets, as_they_are, 1, 0)
    every = {(bytes(image.numpy()), i == 0) for i, images in enumerate(sets) for image in as_they_are(images)}
    assert learnt[0] | learnt[1] == every
    assert not learnt[0] & learnt[1]


def test_logits_do_not_depend_on_the_batch():
    x = as_they_are(noise(12, 0))
    judge = learn(x, torch.arange(12) < 6, 1, 0)
    with torch.no_grad():
        assert torch.allclose(judge(x)[:1], judge(x[:1]), atol=1e-6)


def test_auc_is_similar_when_sets_are_swapped():
    first, second = noise(120, 0, high=200), noise(120, 1)
    forth, back = (two_sample(*pair, as_they_are, 12, 0).value for pair in ((first, second), (second, first)))
    assert abs(forth - back) < 0.1
    assert min(forth, back) > 0.6


def test_views_quantise_or_filter_images():
    images = torch.arange(256).to(torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(as_they_are(images), images / 127.5 - 1)
    levels = in_16_levels(images).unique()
    assert len(levels) == 16
    assert torch.allclose(levels.diff(), torch.full((15,), 2 / 15), atol=1e-6)
    assert torch.equal(in_16_levels(images), in_16_levels(images.clamp(min=2)))  # a ground of 2 becomes black
    assert high_pass(torch.full_like(images, 77)).abs().max() < 1e-6
    ramp = to_uint8(torch.arange(16).expand(1, 1, 16, 16) / 16)
    assert high_pass(ramp)[..., 4:-4, 4:-4].abs().max() < 0.02  # smooth images do not pass


def test_two_sample_is_deterministic_for_a_seed():
    sets = noise(40, 0), noise(40, 1, high=200)
    assert (
        two_sample(*sets, as_they_are, 2, 1)
        == two_sample(*sets, as_they_are, 2, 1)
        != two_sample(*sets, as_they_are, 2, 2)
    )


def test_interval_is_of_the_mean_of_two_independent_folds(monkeypatch):
    folds = iter([(0.6, 0.01), (0.8, 0.03)])  # the variance of their mean is 0.04 / 4
    monkeypatch.setattr("ddpm.evaluation.two_sample.learn", lambda *_: lambda x: x[:, 0, 0, 0])
    monkeypatch.setattr("ddpm.evaluation.two_sample.auc", lambda *_: next(folds))
    found = two_sample(noise(8, 0), noise(8, 1), as_they_are, 1, 0)
    assert (found.low, found.value, found.high) == pytest.approx((0.7 - 0.196, 0.7, 0.7 + 0.196))
