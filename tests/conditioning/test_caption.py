"""Captions as a conditioning: what the rules see of an image, and what a user writes."""

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


def test_an_image_s_caption_is_true():
    images = torch.randint(256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(40) % 10
    rows = caption().encode(normalize_img(images / 255), labels)
    for said, label, row in zip(map(parse, captions(rows)), labels.tolist(), measured(images, labels), strict=True):
        assert said.item == label
        assert all(row[VALUES.index(value) // 2] == VALUES.index(value) % 2 + 1 for value in said.values)
    with pytest.raises(ValueError, match="this data set has none, so use clusters or null"):
        caption().encode(normalize_img(images / 255), None)


def test_new_captions_are_of_the_classes_round_robin():
    drawn = caption().draw(0, range(200))
    assert [parse(text).item for text in captions(drawn)] == [*range(10)] * 20
    assert len({*captions(drawn)}) > 100


def test_a_class_number_becomes_a_caption_that_names_the_class_alone():
    rows = caption().of_labels(torch.tensor([3, 9]))
    assert [parse(text) for text in captions(rows)] == [(3, ()), (9, ())]


def test_what_a_user_writes_is_taken_or_refused():
    conditioning = caption()
    assert torch.equal(conditioning.of_captions(["a dark dress"]), tokens(["a dark dress"]))
    for wrong, message in (("a dark", "names no item"), ("", "at least one word"), ("a drees", "dress")):
        with pytest.raises(UserError, match=message):
            conditioning.of_captions(["a dark dress", wrong])


def test_the_network_is_given_every_word_and_the_last_vector():
    conditioning, rows = caption(), tokens(["a dark dress", "a pale boot"])
    given = conditioning(rows)
    assert torch.equal(given.tokens, conditioning.encoder(rows))
    assert torch.equal(given.embedding, conditioning.project(given.tokens[:, -1]))
    assert conditioning.null(rows).tolist() == torch.zeros_like(rows).tolist()


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="width is 6; it must be a multiple of heads, 4"):
        CaptionOptions(width=6)
