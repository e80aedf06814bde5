"""Captions as conditioning: those measured by rules, and those written by users."""

import pytest
import torch

from ddpm.captions.attributes import VALUES, measured
from ddpm.captions.grammar import parse
from ddpm.captions.vocabulary import captions, tokens
from ddpm.conditioning.kinds.caption import Caption, CaptionOptions
from ddpm.errors import UserError
from ddpm.images import normalize_img


def caption(n_classes=10):
    torch.manual_seed(0)
    return Caption((1, 28, 28), n_classes, 8, **CaptionOptions(width=16, heads=2, layers=1).model_dump()).eval()


def test_encoded_captions_match_class_and_attributes():
    images = torch.randint(256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(40) % 10
    rows = caption().encode(normalize_img(images / 255), labels)
    for said, label, row in zip(map(parse, captions(rows)), labels.tolist(), measured(images, labels), strict=True):
        assert said.item == label
        assert all(row[VALUES.index(value) // 2] == VALUES.index(value) % 2 + 1 for value in said.values)
    with pytest.raises(ValueError, match="this data set has none, so use clusters or null"):
        caption().encode(normalize_img(images / 255), None)


def test_drawn_captions_cycle_through_classes():
    drawn = caption().draw(0, range(200))
    assert [parse(text).item for text in captions(drawn)] == [*range(10)] * 20
    assert len({*captions(drawn)}) > 100
    n_said = [len(parse(text).values) for text in captions(drawn)][3::10]  # of dresses, which have three attributes
    assert min(n_said) < max(n_said) == 3


def test_of_labels_gives_captions_with_the_class_only():
    rows = caption().of_labels(torch.tensor([3, 9]))
    assert [parse(text) for text in captions(rows)] == [(3, ()), (9, ())]


def test_of_captions_rejects_invalid_captions():
    conditioning = caption()
    assert torch.equal(conditioning.of_captions(["a dark dress"]), tokens(["a dark dress"]))
    for wrong, message in (("a dark", "names no item"), ("", "at least one word"), ("a drees", "dress")):
        with pytest.raises(UserError, match=message):
            conditioning.of_captions(["a dark dress", wrong])


def test_caption_gives_tokens_and_projected_last_vector():
    conditioning, rows = caption(), tokens(["a dark dress", "a pale boot"])
    given = conditioning(rows)
    assert torch.equal(given.tokens, conditioning.encoder(rows))
    assert torch.equal(given.embedding, conditioning.project(given.tokens[:, -1]))
    assert conditioning.null(rows).tolist() == torch.zeros_like(rows).tolist()


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="width is 6; it must be a multiple of heads, 4"):
        CaptionOptions(width=6)
