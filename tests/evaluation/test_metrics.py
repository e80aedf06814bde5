"""Metrics against closed forms, SciPy and constructed sets, and each registered metric against its description."""

import re
from dataclasses import replace
from math import inf

import pytest
import torch
from evaluation.points import normal
from project import REPO
from scipy import linalg
from scipy.spatial.distance import cdist
from scored import scores
from torch import Tensor

from ddpm.evaluation.estimate import Estimate
from ddpm.evaluation.frechet import fid
from ddpm.evaluation.manifold import share_in_manifold
from ddpm.evaluation.metric import METRICS, Comparison, Described, Metric, frequencies
from ddpm.evaluation.metrics.kid_classifier import kid
from ddpm.evaluation.metrics.likelihood_gap_classifier import fitted_variances, log_likelihood
from ddpm.evaluation.two_sample import as_they_are, high_pass, in_16_levels, two_sample
from ddpm.images import to_uint8

N = 150


def exactly(points: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The points, transformed to have exactly this sample mean and a diagonal covariance."""
    centred = points - points.mean(dim=0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(centred.T.cov())).T
    return white * deviation + mean


def test_fid_of_gaussians_matches_closed_form():
    # Diagonal covariances commute: |m1 - m2|^2 + sum (s1 - s2)^2.
    m1, m2 = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, -1.0]).double()
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 0.1]).double()
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    found = fid(exactly(normal(50, 3, 0), m1, s1), exactly(normal(40, 3, 1), m2, s2))
    assert abs(found - expected.item()) < 1e-9


def test_fid_matches_scipy_matrix_square_root():
    a = normal(300, 8, 0) @ normal(8, 8, 1)
    b = normal(200, 8, 2) @ normal(8, 8, 3) + 0.5
    root = linalg.sqrtm(a.T.cov().numpy() @ b.T.cov().numpy()).real
    trace = a.T.cov().trace() + b.T.cov().trace() - 2 * root.trace()
    expected = ((a.mean(0) - b.mean(0)).square().sum() + trace).item()
    assert fid(a, b) == pytest.approx(expected, rel=1e-9)
    assert fid(b, a) == pytest.approx(expected, rel=1e-9)
    assert abs(fid(a, a)) < 1e-9


def test_kid_is_unbiased():
    # Over 60 pairs of sets from one distribution the mean must be 0: within 4 of its own standard errors.
    values = torch.tensor([kid(normal(40, 4, 2 * i), normal(40, 4, 2 * i + 1), seed=i) for i in range(60)])
    assert abs(values.mean()) < 4 * values.std() / 60**0.5
    assert values.min() < 0
    shifted = torch.tensor([kid(normal(40, 4, 2 * i), normal(40, 4, 2 * i + 1) + 1, seed=i) for i in range(10)])
    assert shifted.min() > values.mean() + 4 * values.std()


def test_kid_matches_the_u_statistic():
    # All images in every subset: each pair counted once, without an image's pair with itself.
    x, y = normal(12, 3, 0), normal(12, 3, 1) + 0.3
    kernel = [[[((p @ q) / 3 + 1) ** 3 for q in right] for p in left] for left, right in ((x, x), (y, y), (x, y))]
    within = [sum(k[i][j] for i in range(12) for j in range(12) if i != j) / (12 * 11) for k in kernel[:2]]
    between = sum(sum(row) for row in kernel[2]) / 144
    assert kid(x, y) == pytest.approx((sum(within) - 2 * between).item(), rel=1e-9)


def described(seed: int, n: int = N, shift: float = 0.0, classes: int = 4) -> Described:
    """A set of images of a known distribution: standard normal features, moved by `shift`."""
    points = normal(n, 6, seed).float() + shift
    seen = (torch.rand(n, generator=torch.Generator().manual_seed(seed)) ** (1 + shift) * classes).long()
    images = to_uint8((normal(n, 64, seed + 100).float() + shift).sigmoid()).reshape(n, 1, 8, 8)
    return Described(images, points, seen, labels=seen.clone(), inception=points)


def comparison(samples: Described, real: Described | None = None) -> Comparison:
    return Comparison(
        samples, real or described(1), described(2, 400), described(3, 300), 4, 10, 0.05, epochs=6, seed=0
    )


@pytest.mark.parametrize("name", METRICS)
def test_real_images_score_like_the_floor_and_others_worse(name):
    metric = METRICS[name]
    same = scores(metric, comparison(described(4)))
    assert metric.sees
    spread = 1.96 * ((same.samples.high - same.samples.value) ** 2 + (same.floor.high - same.floor.value) ** 2) ** 0.5
    # Two sets of one distribution: their difference is within some standard errors (1.96 x 1.96 = 3.8), or the rates
    # are of a few images.
    assert abs(same.samples.value - same.floor.value) <= spread + 3 / N
    far = described(4, shift=3.0)
    if metric.better == "near the floor":
        train = described(3, 300)
        far = replace(far, images=train.images[:N], features=train.features[:N])  # copies
    if name.startswith("label"):
        far = replace(far, labels=(far.classes + 1) % 4)
    worse = scores(metric, comparison(far))
    if metric.better == "higher":
        assert worse.samples.high < same.samples.low
    else:
        assert worse.samples.low > same.samples.high
    assert worse.floor == same.floor  # the floor ignores the samples


@pytest.mark.parametrize("name", METRICS)
def test_score_of_a_set_does_not_depend_on_its_role(name):
    samples, real = described(4, shift=0.5), described(1)
    forth, back = (scores(METRICS[name], comparison(*pair)) for pair in ((samples, real), (real, samples)))
    assert forth.floor == back.samples
    assert forth.samples == back.floor


@pytest.mark.parametrize("name", METRICS)
def test_intervals_stay_within_the_range_of_the_metric(name):
    """For 24 images, the minimum, and copies of the reference: extreme scores and wide intervals."""
    least = -inf if name.startswith(("kid", "likelihood_gap")) else 0
    most = inf if name.startswith(("kid", "likelihood_gap", "fid", "patches", "density")) else 1
    reference = described(2, 24)
    for samples in (described(0, 24), described(1, 24, shift=3.0), reference):
        compared = replace(comparison(samples, described(3, 24)), reference=reference)
        found = METRICS[name].score(compared, samples)
        if found is not None:
            assert least <= found.low <= found.value + 1e-12  # FID's rounding
            assert found.value <= found.high <= most
    if not name.startswith(("label_accuracy", "precision", "duplicates")):  # whose intervals are Wilson's
        wide = replace(METRICS[name], function=lambda *_: Estimate(0.5, -9.0, 9.0)).score(compared, reference)
        assert (wide.low, wide.high) == (max(-9, least), min(9, most))


def test_docs_describe_every_metric():
    text = (REPO / "docs/evaluation.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| [^|]+ \|$", text, re.MULTILINE)
    found = {name: (better, sees) for name, better, sees in rows if name in METRICS}
    assert found == {name: (metric.better, metric.sees) for name, metric in METRICS.items()}


def test_metrics_return_none_where_they_do_not_apply():
    bare = replace(described(4), labels=None)
    assert scores(METRICS["label_accuracy_classifier"], comparison(bare)) is None
    blind = replace(comparison(described(4)), reference=replace(described(2, 400), inception=None))
    assert scores(METRICS["fid_inception"], blind) is None


@pytest.mark.parametrize(("name", "space"), [("duplicates_pixel", "images"), ("duplicates_classifier", "features")])
def test_duplicates_count_only_in_the_space_of_the_copy(name, space):
    train, samples = described(3, 300), described(4)
    copied = replace(samples, **{space: getattr(train, space)[:N]})
    rates = {other: scores(METRICS[other], comparison(copied)).samples.value for other in METRICS if "dupl" in other}
    assert rates.pop(name) == 1
    assert max(rates.values()) < 0.2  # about the quantile, 0.05


def test_label_accuracy_is_share_of_correct_labels():
    made, real = described(4, 8), described(1, 8)
    made = replace(made, labels=made.classes.clone())
    made.labels[:5] = (made.classes[:5] + 1) % 4
    found = scores(METRICS["label_accuracy_classifier"], comparison(made, real))
    assert (found.samples.value, found.floor.value) == (3 / 8, 1)


def test_class_distance_is_total_variation():
    assert frequencies(torch.tensor([0, 0, 0, 2]), 3).tolist() == [0.75, 0, 0.25]
    base = comparison(replace(described(4, 4), classes=torch.tensor([0, 0, 0, 2])))
    reference = replace(described(2, 4), classes=torch.tensor([0, 1, 0, 1]))
    found = scores(METRICS["class_distance_classifier"], replace(base, reference=reference))
    assert found.samples.value == 0.5


def test_fid_uses_full_reference_and_precision_equal_numbers():
    c = comparison(described(4))
    assert scores(METRICS["fid_classifier"], c).samples.value == fid(c.reference.features, c.samples.features)
    assert scores(METRICS["kid_classifier"], c).samples.value == kid(c.reference.features, c.samples.features, c.seed)
    assert len(set(c.equal_reference.tolist())) == N
    equal = c.reference.features[c.equal_reference]
    expected = share_in_manifold(c.samples.features, equal)
    assert scores(METRICS["precision_classifier"], c).samples.value == expected
    expected = share_in_manifold(equal, c.samples.features)
    assert scores(METRICS["recall_classifier"], c).samples.value == expected


@pytest.mark.parametrize(
    ("name", "view"), [("auc_8_bit", as_they_are), ("auc_16_levels", in_16_levels), ("auc_high_pass", high_pass)]
)
def test_two_sample_tests_have_their_view_of_equal_numbers(name, view):
    c = replace(comparison(described(4, 30)), epochs=2)
    assert len(c.equal_reference) == 30
    expected = two_sample(c.samples.images, c.reference.images[c.equal_reference], view, 2, c.seed)
    assert METRICS[name].score(c, c.samples).value == expected.value


def test_density_and_coverage_use_fifth_neighbours_of_equal_numbers():
    """As in Naeem et al. 2020, equations 4 and 5."""
    c = comparison(described(4, shift=0.3))
    made, real = c.samples.features.double(), c.reference.features[c.equal_reference].double()
    radius = torch.from_numpy(cdist(real, real)).sort(dim=1).values[:, 5]  # the first is the image itself
    inside = torch.from_numpy(cdist(made, real)) <= radius
    assert scores(METRICS["density_classifier"], c).samples.value == pytest.approx(inside.double().sum(1).mean() / 5)
    assert scores(METRICS["coverage_classifier"], c).samples.value == inside.any(0).double().mean()


def test_log_likelihood_matches_torch_mixture():
    means, points, variances = normal(5, 3, 0), normal(20, 3, 1), torch.tensor([0.5, 1, 2, 3, 4]).double()
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(5).double()),
        torch.distributions.Independent(torch.distributions.Normal(means, variances.sqrt()[:, None].expand(5, 3)), 1),
    )
    found = log_likelihood(torch.cdist(points, means).square(), variances, 3)
    constant = 1.5 * torch.tensor(2 * torch.pi).log()
    assert torch.allclose(found - constant, mixture.log_prob(points))


def test_fitted_variance_of_one_gaussian_is_mean_square():
    squares = torch.cdist(normal(50, 3, 0), normal(1, 3, 1)).square()
    assert fitted_variances(squares, 3).item() == pytest.approx(squares.mean().item() / 3)


def test_likelihood_gap_detects_copies_of_training_images():
    train, unseen = described(3, 300), described(4)
    gap = METRICS["likelihood_gap_classifier"]
    copied = comparison(replace(unseen, features=train.features[:N], images=train.images[:N]))
    found, honest = scores(gap, copied), scores(gap, comparison(unseen))
    assert found.samples.value > 10 * abs(honest.samples.value)
    assert abs(honest.samples.value - honest.floor.value) < 0.1


@pytest.mark.parametrize(
    ("better", "worse", "same", "fine"), [("lower", 9, 6, 1), ("higher", 1, 4, 9), ("near the floor", 9, 6, 1)]
)
def test_tells_requires_worse_score_and_disjoint_intervals(better, worse, same, fine):
    metric, floor = Metric(lambda *_: None, better, "something"), Estimate(5.0, 4.0, 6.0)
    told = [metric.tells(Estimate(value, value - 1, value + 1), floor) for value in map(float, (worse, same, fine))]
    assert told == [True, False, False]


@pytest.mark.parametrize(("better", "side"), [("lower", 1), ("higher", -1), ("near the floor", 1)])
def test_tells_uses_the_facing_ends_of_intervals(better, side):
    # A score 2 worse than the floor, with 1 between them and the ends on that side and 9 on the other.
    metric = Metric(lambda *_: None, better, "something")

    def lopsided(value, inner, outer):
        return Estimate(value, *sorted((value - side * inner, value + side * outer)))

    assert metric.tells(lopsided(2.0 * side, 1, 9), lopsided(0.0, 9, 1))
    assert not metric.tells(lopsided(2.0 * side, 9, 1), lopsided(0.0, 1, 9))
