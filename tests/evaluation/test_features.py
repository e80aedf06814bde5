"""The classifier learns, repeats itself bit for bit, and says what is wrong with its input."""

import hashlib

import pytest
import torch

from ddpm.errors import UserError
from ddpm.evaluation.classifier import N_FEATURES, FashionCnn, describe, load_classifier
from ddpm.evaluation.quality import check_samples
from ddpm.run.files import save_tensors
from ddpm.sections import LEAST_SAMPLES, TrainClassifier
from ddpm.run.seeding import global_stream
from ddpm.training.classifier import fit_classifier, shifted

SETTINGS = {
    "checkpoint_seconds": 60.0,
    "batch_size": 32,
    "lr": 0.1,
    "weight_decay": 0.0005,
    "label_smoothing": 0.1,
    "max_shift": 1,
}


def toy(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright square, upper left in class 3 and lower right in class 7."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(100, (n, 1, 28, 28), generator=stream, dtype=torch.uint8)
    labels = torch.where(torch.rand(n, generator=stream) < 0.5, 3, 7).to(torch.uint8)
    images[labels == 3, :, 4:12, 4:12] += 100
    images[labels == 7, :, 16:24, 16:24] += 100
    return images, labels


def fitted(seed: int) -> FashionCnn:
    params = TrainClassifier.model_validate(SETTINGS | {"n_train": 256, "epochs": 3})
    with global_stream(0, "init"):
        model = FashionCnn()
    fit_classifier(model, params, *toy(256, 0), seed)
    return model


def test_it_learns_what_can_be_separated_and_one_seed_gives_one_model():
    model, again, other = (fitted(seed) for seed in (0, 0, 1))
    images, labels = toy(200, 1)
    found = describe(model, images)
    assert (found.classes == labels).double().mean() >= 0.98
    assert found.features.shape == (200, N_FEATURES)
    assert (found.pixels - images.flatten(1) / 255).abs().max() < 1e-6
    weights = [m.state_dict()["head.weight"] for m in (model, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_an_image_is_described_the_same_in_any_company():
    model, images = FashionCnn().eval(), toy(20, 0)[0]
    alone = torch.cat([describe(model, image[None]).features for image in images])
    assert (describe(model, images).features - alone).abs().max() < 1e-5


def test_shifts_move_whole_images_by_at_most_the_limit():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 4] = 200
    moved = shifted(image.expand(500, 1, 9, 9), 2, torch.Generator().manual_seed(0))
    places = moved.flatten(1).argmax(dim=1)
    assert set(places.tolist()) == {9 * down + across for down in range(2, 7) for across in range(2, 7)}
    assert (moved.flatten(1).sum(dim=1) == 200).all()
    assert torch.equal(shifted(image, 0, torch.Generator()), image)


def test_divergence_is_one_line():
    params = TrainClassifier.model_validate(SETTINGS | {"n_train": 64, "epochs": 1})
    model = FashionCnn()
    model.head.bias.data.fill_(torch.inf)  # BatchNorm keeps the loss finite at any learning rate that is allowed
    message = r"the loss at step 1 of 2, batch 1 of 2 in epoch 1, is nan, with lr \S+ and 32 images; try a smaller lr"
    with pytest.raises(UserError, match=message):
        fit_classifier(model, params, *toy(64, 0))


def test_weights_are_named_by_their_hash_and_damage_is_named(tmp_path):
    path = tmp_path / "classifier.safetensors"
    with pytest.raises(UserError, match=r"classifier\.safetensors: no such file; run `dvc repro`"):
        load_classifier(path)
    model = FashionCnn()
    save_tensors(path, **model.state_dict())
    loaded, name = load_classifier(path)
    assert name == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    assert not loaded.training
    save_tensors(path, weight=torch.zeros(3))
    with pytest.raises(UserError, match=r"not the classifier's weights"):
        load_classifier(path)
    path.write_bytes(b"not tensors")
    with pytest.raises(UserError, match=r"damaged or not a safetensors file"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("n", "shape", "message"),
    [
        (1001, (1000, 1, 28, 28), r"n_samples is 1001, but samples/unet\.safetensors holds 1000; run"),
        (300, (1000, 3, 28, 28), r"images of shape \(3, 28, 28\); FashionMNIST has \(1, 28, 28\)"),
    ],
)
def test_samples_that_cannot_be_scored_say_why(n, shape, message):
    with pytest.raises(UserError, match=message):
        check_samples(torch.zeros(shape, dtype=torch.uint8), n, (1, 28, 28))


def test_the_least_number_of_samples_is_where_half_of_them_have_a_covariance_of_full_rank():
    half = torch.randn(LEAST_SAMPLES // 2, N_FEATURES, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(half.double().T.cov()) == N_FEATURES
    assert torch.linalg.matrix_rank(half[:-1].double().T.cov()) == N_FEATURES - 1
