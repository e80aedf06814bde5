"""Class labels: a learned vector for each class, and one for no label."""

import pytest
import torch

from ddpm.conditioning.kinds.labels import Labels

IMAGES = torch.zeros(3, 1, 4, 4)


def labels(n_classes=3, dropout=0.1):
    return Labels((1, 4, 4), n_classes, 8, dropout)


def test_embedding_has_a_row_per_class_and_a_last_one_for_null():
    conditioning = labels().eval()
    cond = torch.tensor([2, 0, 0])
    assert torch.equal(conditioning(cond).embedding, conditioning.embedding.weight[[2, 0, 0]])
    assert conditioning.null(cond).tolist() == [3, 3, 3]
    assert torch.equal(conditioning(conditioning.null(cond)).embedding, conditioning.embedding.weight[[3, 3, 3]])
    assert conditioning.embedding.weight.shape == (4, 8)
    with pytest.raises(IndexError):
        conditioning(torch.tensor([4]))


def test_encode_returns_labels_as_int64_and_requires_them():
    cond = labels().encode(IMAGES, torch.tensor([0, 2, 1], dtype=torch.uint8))
    assert cond.tolist() == [0, 2, 1]
    assert cond.dtype == torch.int64
    with pytest.raises(ValueError, match="conditioning is labels; this data set has none, so use clusters or null"):
        labels().encode(IMAGES, None)


def test_draw_cycles_through_classes():
    assert labels().draw(0, [0, 1, 2, 3, 7]).tolist() == [0, 1, 2, 0, 1]


def test_mix_takes_the_class_with_the_larger_weight():
    mixed = labels(9).mix(torch.tensor([4]), torch.tensor([7]), torch.tensor([0.0, 0.4, 0.5, 0.6, 1.0]))
    assert mixed.tolist() == [4, 4, 4, 7, 7]


def test_labels_do_not_share_memory_with_cond():
    cond = torch.tensor([2, 0])
    found = labels().labels(cond)
    assert torch.equal(found, cond)
    assert found.data_ptr() != cond.data_ptr()  # safetensors refuses to save tensors that share memory
