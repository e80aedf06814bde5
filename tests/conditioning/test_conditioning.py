"""The interface of every kind of conditioning to networks, samplers and stages."""

import pytest
import torch

from ddpm.conditioning.conditioning import CONDITIONINGS, Conditioning, build_conditioning, image_channels
from ddpm.run.seeding import generator, global_stream

SHAPE, N_CLASSES, EMBEDDING = (3, 4, 4), 3, 8
SMALL = {"n_clusters": 4, "max_level": 0.0, "caption_dropout": 1.0}
KINDS = pytest.mark.parametrize("name", list(CONDITIONINGS))
IN_PARTS = {"embedding"}  # drops its parts separately (see test_embedding)


def config(name, **options):
    fields = CONDITIONINGS[name].Options.model_fields
    given = {key: value for key, value in (SMALL | options).items() if key in fields}
    return {"name": name, **CONDITIONINGS[name].Options(**given).model_dump()}


def images(n=24):
    return torch.rand(n, *SHAPE, generator=generator(0, "images")) * 2 - 1


def fitted(name, **options):
    with global_stream(0, "init"):
        conditioning = build_conditioning(config(name, **options), SHAPE, N_CLASSES, EMBEDDING)
    conditioning.fit(images(), seed=0)
    return conditioning.eval()


def encoded(conditioning, n=24):
    return conditioning.encode(images(n), torch.arange(n) % N_CLASSES)


def same(first, second):
    return all(torch.equal(a, b) if a is not None else b is None for a, b in zip(first, second, strict=True))


def test_unconditional_network_has_no_conditioning():
    assert build_conditioning(None, SHAPE, N_CLASSES, EMBEDDING) is None
    assert image_channels(None, SHAPE) == 0


@KINDS
def test_build_applies_options_and_output_matches_declaration(name):
    conditioning = fitted(name, dropout=0.25)
    assert isinstance(conditioning, Conditioning)
    assert conditioning.dropout == 0.25
    assert conditioning.describes.startswith("given ")
    with torch.no_grad():
        given = conditioning(encoded(conditioning, 5))
    assert (given.image is not None) == conditioning.gives_image
    channels = SHAPE[0] + conditioning.gives_mask if conditioning.gives_image else 0
    assert image_channels(config(name), SHAPE) == channels
    assert given.image is None or given.image.shape == (5, channels, *SHAPE[1:])
    assert given.embedding is None or given.embedding.shape == (5, EMBEDDING)
    assert given.image is not None or given.embedding is not None


@KINDS
def test_encode_does_not_depend_on_the_batch(name):
    conditioning = fitted(name)
    together = encoded(conditioning)
    assert len(together) == 24
    alone = [
        conditioning.encode(x[None], label[None])
        for x, label in zip(images(), torch.arange(24) % N_CLASSES, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@KINDS
def test_draw_does_not_depend_on_other_indices_or_global_rng(name):
    conditioning = fitted(name)
    drawn = conditioning.draw(5, range(40))
    torch.manual_seed(9)
    assert torch.equal(conditioning.draw(5, [7, 3, 39]), drawn[[7, 3, 39]])
    assert drawn.dtype == encoded(conditioning).dtype
    assert len(conditioning.draw(5, [])) == 0
    assert len(drawn.unique(dim=0)) > 1  # not all images are given the same


@KINDS
def test_null_is_uninformative_and_differs_from_every_cond(name):
    conditioning = fitted(name)
    cond = encoded(conditioning)
    null = conditioning.null(cond)
    assert (null.shape, null.dtype) == (cond.shape, cond.dtype)
    if not conditioning.gives_mask:  # otherwise the null keeps the image
        assert len(null.unique(dim=0)) == 1
        assert same(conditioning(null), conditioning(conditioning.null(conditioning.draw(0, range(24)))))
    for row in cond.unique(dim=0):
        assert not same(conditioning(row[None]), conditioning(conditioning.null(row[None])))


@pytest.mark.parametrize("name", [name for name in CONDITIONINGS if name not in IN_PARTS])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_cond_is_dropped_at_the_given_rate_in_training_only(name, dropout):
    conditioning = fitted(name, dropout=dropout)
    cond = torch.cat([encoded(conditioning)] * 125)
    assert torch.equal(conditioning.dropped(cond), cond)
    conditioning.train()
    with global_stream(0, "dropout"):
        found = conditioning.dropped(cond)
    null = (found == conditioning.null(cond)).reshape(len(cond), -1).all(dim=1)
    # 3000 rows, where one seed in two million is more than five standard errors off
    assert abs(null.double().mean() - dropout) <= 5 * (dropout * (1 - dropout) / 3000) ** 0.5
    assert torch.equal(found[~null], cond[~null])
    with global_stream(0, "dropout"):  # the output is that of the dropped rows
        given = conditioning(cond)
    assert same(given, conditioning.eval()(found))


@KINDS
def test_mix_endpoints_equal_its_inputs(name):
    conditioning = fitted(name)
    cond = encoded(conditioning).unique(dim=0)
    first, second = cond[:1], cond[1:2]
    mixed = conditioning.mix(first, second, torch.tensor([0.0, 0.3, 1.0]))
    assert len(mixed) == 3
    assert same(conditioning(mixed[:1]), conditioning(first))
    assert same(conditioning(mixed[2:]), conditioning(second))
    assert len(conditioning.null(mixed)) == 3
    nothing = conditioning.null(torch.cat((first, first, second)))
    assert same(conditioning(conditioning.null(mixed)), conditioning(nothing))


@KINDS
def test_state_dict_restores_conditioning(name):
    # Its fitted state is saved with the network.
    conditioning = fitted(name)
    with global_stream(1, "init"):
        other = build_conditioning(config(name), SHAPE, N_CLASSES, EMBEDDING)
    other.load_state_dict(conditioning.state_dict())
    cond = encoded(conditioning)
    assert same(other.eval()(cond), conditioning(cond))
    assert torch.equal(other.draw(0, range(20)), conditioning.draw(0, range(20)))


@KINDS
def test_of_labels_round_trips_or_raises(name):
    conditioning = fitted(name)
    labels = torch.tensor([2, 0])
    if conditioning.labels(encoded(conditioning)) is None:
        with pytest.raises(ValueError, match="labels are given"):
            conditioning.of_labels(labels)
        return
    assert torch.equal(conditioning.labels(conditioning.of_labels(labels)), labels)
    for wrong in (torch.tensor([N_CLASSES]), torch.tensor([-1]), torch.tensor([0.5])):
        with pytest.raises(ValueError, match=rf"allowed: whole numbers 0 to {N_CLASSES - 1}"):
            conditioning.of_labels(wrong)


@KINDS
def test_check_rejects_out_of_range_values(name):
    conditioning, cond = fitted(name), encoded(fitted(name), 2)
    conditioning.check(cond)
    conditioning.check(conditioning.null(cond))
    most = 255 if cond.dtype == torch.uint8 else 10_000
    for wrong in (torch.full_like(cond, most), torch.full_like(cond, -1) if cond.dtype != torch.uint8 else cond + 200):
        with pytest.raises(ValueError, match=r"cond .*; allowed: "):
            conditioning.check(wrong)


@pytest.mark.parametrize("name", ["labels", "clusters"])
def test_check_rejects_the_value_after_null(name):
    conditioning, cond = fitted(name), encoded(fitted(name), 2)
    with pytest.raises(ValueError, match=r"cond .*; allowed: "):
        conditioning.check(conditioning.null(cond) + 1)


@pytest.mark.parametrize("wrong", [-0.01, 1.01, float("nan")])
def test_check_rejects_invalid_levels_and_pixels(wrong):
    conditioning, cond = fitted("low_resolution"), encoded(fitted("low_resolution"), 2)
    with pytest.raises(ValueError, match=r"cond has levels .*; allowed: levels 0 to 1, and finite pixels"):
        conditioning.check(torch.cat((cond[:, :-1], torch.full_like(cond[:, -1:], wrong)), dim=1))
    with pytest.raises(ValueError, match="finite pixels"):
        conditioning.check(torch.cat((torch.full_like(cond[:, :-1], torch.inf), cond[:, -1:]), dim=1))
