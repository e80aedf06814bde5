"""The classifier learns, is reproducible bit for bit, and reports invalid input."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from processes import in_processes
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from ddpm.data.dataset import ImageDataset
from ddpm.data.order import batches
from ddpm.errors import UserError
from ddpm.evaluation.classifier import (
    N_FEATURES,
    Classifier,
    ClassifierConfig,
    TrainClassifier,
    describe,
    even_sized,
    fit_classifier,
    load_classifier,
    one_cycle,
    save_classifier,
    shifted,
)
from ddpm.evaluation.evaluate import LEAST_SAMPLES
from ddpm.run.files import save_tensors
from ddpm.run.seeding import global_stream

SETTINGS = {
    "batch_size": 32,
    "lr": 0.1,
    "weight_decay": 0.0005,
    "micro_batches": 2,
    "label_smoothing": 0.1,
    "max_shift": 1,
}


CONFIG = ClassifierConfig(1, 10)


def toy(n: int, seed: int) -> ImageDataset:
    """Noise with a bright square, upper left in class 3 and lower right in class 7."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(100, (n, 1, 28, 28), generator=stream, dtype=torch.uint8)
    labels = torch.where(torch.rand(n, generator=stream) < 0.5, 3, 7).to(torch.uint8)
    images[labels == 3, :, 4:12, 4:12] += 100
    images[labels == 7, :, 16:24, 16:24] += 100
    return ImageDataset(images, labels)


def fitted(seed: int) -> Classifier:
    params = TrainClassifier.model_validate(SETTINGS | {"epochs": 3})
    with global_stream(0, "init"):
        model = Classifier(CONFIG)
    fit_classifier(model, params, toy(256, 0), seed)
    return model


def test_classifier_learns_and_is_deterministic_for_a_seed():
    model, again, other = (fitted(seed) for seed in (0, 0, 1))
    assert not model.training
    images, labels = toy(200, 1).images, toy(200, 1).labels
    found = describe(model, images)
    assert (found.classes == labels).double().mean() >= 0.98
    assert found.features.shape == (200, N_FEATURES)
    assert (found.pixels - images.flatten(1) / 255).abs().max() < 1e-6
    weights = [m.state_dict()["head.weight"] for m in (model, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_features_do_not_depend_on_the_batch():
    model, images = Classifier(CONFIG).eval(), toy(20, 0).images
    alone = torch.cat([describe(model, image[None]).features for image in images])
    assert (describe(model, images).features - alone).abs().max() < 1e-5
    with torch.no_grad():
        expected = model.features(images.float() / 127.5 - 1)
    assert (alone - expected).abs().max() < 1e-5


def test_shifts_cover_all_offsets_up_to_the_limit():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 4] = 200
    moved = shifted(image.expand(500, 1, 9, 9), 2, torch.Generator().manual_seed(0))
    places = moved.flatten(1).argmax(dim=1)
    assert set(places.tolist()) == {9 * down + across for down in range(2, 7) for across in range(2, 7)}
    assert (moved.flatten(1).sum(dim=1) == 200).all()
    assert torch.equal(shifted(image, 0, torch.Generator()), image)


def test_divergence_raises_user_error():
    params = TrainClassifier.model_validate(SETTINGS | {"epochs": 1})
    model = Classifier(CONFIG)
    model.head.bias.data.fill_(torch.inf)  # BatchNorm keeps the loss finite at any learning rate that is allowed
    message = r"the loss at step 1 of 2, batch 1 of 2 in epoch 1, is nan, with lr \S+ and 32 images; try a smaller lr"
    with pytest.raises(UserError, match=message):
        fit_classifier(model, params, toy(64, 0))


def test_load_names_weights_by_hash_and_rejects_invalid_files(tmp_path):
    path = tmp_path / "classifier.safetensors"
    with pytest.raises(UserError, match=r"classifier\.safetensors: no such file; run `dvc repro`"):
        load_classifier(path)
    model = Classifier(CONFIG)
    save_classifier(path, model)
    loaded, name = load_classifier(path)
    assert name == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    assert not loaded.training
    save_tensors(path, weight=torch.zeros(3))
    with pytest.raises(UserError, match=r"not a classifier of this version"):
        load_classifier(path)
    path.write_bytes(b"not tensors")
    with pytest.raises(UserError, match=r"damaged or not a safetensors file"):
        load_classifier(path)


def test_half_of_least_samples_has_full_rank_covariance():
    half = torch.randn(LEAST_SAMPLES // 2, N_FEATURES, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(half.double().T.cov()) == N_FEATURES
    assert torch.linalg.matrix_rank(half[:-1].double().T.cov()) == N_FEATURES - 1


@pytest.mark.parametrize("total", [6, 50, 2150])
def test_one_cycle_matches_torch(total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    torchs = OneCycleLR(optimizer, 0.2, total, pct_start=0.2, cycle_momentum=False)
    for done in range(total):
        assert one_cycle(done, total, 0.2) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        if done < total - 1:
            torchs.step()


@pytest.mark.parametrize("total", [1, 2, 5])
def test_one_cycle_of_few_steps_never_rises(total):
    rates = [one_cycle(done, total, 0.2) for done in range(total)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.2


class Flat(nn.Module):
    """A linear classifier, so that a training run can be repeated with torch's own parts."""

    def __init__(self):
        super().__init__()
        with global_stream(3, "flat"):
            self.head = nn.Linear(16, 10)

    def forward(self, images):
        return self.head(images.flatten(1))


def test_training_matches_torch_sgd_with_one_cycle():
    params = TrainClassifier(
        batch_size=8, micro_batches=1, epochs=3, lr=0.3, weight_decay=0.05, label_smoothing=0.2, max_shift=0
    )
    images = torch.randint(256, (24, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(24) % 10).to(torch.uint8)
    ours, theirs = Flat(), Flat()
    losses = fit_classifier(ours, params, ImageDataset(images, labels), seed=5)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.3, momentum=0.9, nesterov=True, weight_decay=0.05)
    cycle = OneCycleLR(optimizer, 0.3, 9, pct_start=0.2, cycle_momentum=False)
    expected = []
    for step, (chosen, _) in enumerate(zip(batches(24, 8, 5), range(9), strict=False), start=1):
        x = images[chosen].float() / 127.5 - 1
        loss = F.cross_entropy(theirs(x), labels[chosen].long(), label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
        if step < 9:
            cycle.step()
    for (step, loss), first in zip(losses, (0, 3, 6), strict=True):
        assert loss == pytest.approx(sum(expected[first : first + 3]) / 3, rel=1e-5)
        assert step == first + 3
    assert (ours.head.weight - theirs.head.weight).abs().max() < 1e-5  # float32


def test_processes_agree_and_batchnorm_uses_all_training_images():
    params = TrainClassifier(
        batch_size=8, micro_batches=4, epochs=2, lr=0.1, weight_decay=0.0, label_smoothing=0.0, max_shift=1
    )
    images = torch.randint(256, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    dataset = ImageDataset(images, (torch.arange(24) % 10).to(torch.uint8))

    def learnt():
        with global_stream(0, "init"):
            model = Classifier(CONFIG)
        losses = fit_classifier(model, params, dataset)
        return losses, {key: value.numpy().tobytes() for key, value in model.state_dict().items()}

    alone = learnt()
    assert in_processes(3, learnt) == [alone] * 3
    with global_stream(0, "init"):
        model = Classifier(CONFIG)
    fit_classifier(model, params, dataset)
    with torch.no_grad():
        maps = model.features[1][0](model.features[0](images.float() / 127.5 - 1))
    statistics = model.features[1][1]
    assert (statistics.running_mean - maps.mean((0, 2, 3))).abs().max() < 1e-5  # float32
    assert (statistics.running_var / maps.var((0, 2, 3)) - 1).abs().max() < 1e-4


@pytest.mark.parametrize(("labels", "max_shift"), [(torch.zeros(6, dtype=torch.uint8), 1), (None, 0)])
def test_shifts_and_rotations_differ_between_steps(labels, max_shift):
    class Seen(Flat):
        def forward(self, images):
            seen.append(images.detach().clone())
            return super().forward(images)

    params = TrainClassifier(
        batch_size=6, micro_batches=1, epochs=4, lr=1e-9, weight_decay=0.0, label_smoothing=0.0, max_shift=max_shift
    )
    seen: list[torch.Tensor] = []
    image = torch.arange(100, 116, dtype=torch.uint8).reshape(1, 1, 4, 4).expand(6, 1, 4, 4).contiguous()
    fit_classifier(Seen(), params, ImageDataset(image, labels))
    assert len({tuple(batch.flatten().tolist()) for batch in seen}) == 4


def test_only_odd_sizes_are_padded_with_black():
    images = torch.rand(2, 3, 5, 7)
    padded = even_sized(images)
    assert padded.shape == (2, 3, 6, 8)
    assert torch.equal(padded[..., :5, :7], images)
    assert (padded[..., 5, :] == -1).all()
    assert (padded[..., 7] == -1).all()
    assert torch.equal(even_sized(padded), padded)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 9, 13), (1, 4, 4)])
def test_classifier_accepts_any_size_and_channels(shape):
    model = Classifier(ClassifierConfig(shape[0], 4)).eval()
    found = describe(model, torch.randint(256, (3, *shape), dtype=torch.uint8))
    assert found.features.shape == (3, N_FEATURES)
    assert model(torch.zeros(2, *shape)).shape == (2, 4)
