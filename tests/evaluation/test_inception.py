"""Inception's features against torch-fidelity's, with random weights: the real ones are not available in tests."""

import hashlib

import pytest
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from ddpm.errors import UserError
from ddpm.evaluation import inception
from ddpm.evaluation.inception import describe_inception, load_inception, resized

KEY = r"params\.yaml: evaluate_unet\.inception_weights is "


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file like the real one, in the old format without zip."""
    network = inception.inception()
    stream = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # with torch's own, activations vanish over many layers
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=stream)
    path = tmp_path / inception.WEIGHTS
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    monkeypatch.setattr(inception, "WEIGHTS_SIZE", path.stat().st_size)
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_features_match_torch_fidelity(weights):
    images = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    other = FeatureExtractorInceptionV3("other", ["2048"], str(weights))
    [expected] = other(images.expand(-1, 3, -1, -1))
    found = describe_inception(load_inception(weights), images)
    assert found.shape == (2, 2048)
    # Values are 0.4 on average. torchvision's own pooling is off by 1.2, its resizing by 0.09.
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (3, 7, 400)])
def test_resizing_matches_tensorflow(shape):
    images = torch.randint(256, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)
    # In float32, torch-fidelity places pixels to some 1e-5 of their distance.
    assert (resized(images) - (expected - 128) / 128).abs().max() < 1e-4


def test_load_rejects_missing_or_unknown_weights(tmp_path):
    with pytest.raises(UserError, match=KEY + r"\S+gone: No such file or directory; use the path of pt_inception-2015"):
        load_inception(tmp_path / "gone")
    (tmp_path / "other").write_bytes(b"something else")
    with (tmp_path / "as long").open("wb") as file:
        file.truncate(inception.WEIGHTS_SIZE)
    for path in (tmp_path, tmp_path / "other", tmp_path / "as long"):
        with pytest.raises(
            UserError, match=KEY + r".+: not pt_inception-2015-12-05-6726825d\.pth, whose SHA-256"
        ) as caught:
            load_inception(path)
        assert "\n" not in str(caught.value)
