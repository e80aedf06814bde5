"""Sampling from a model: what it returns, and what it must not change."""

import pytest
import torch
from analytic import SHAPE, Linear, streams
from torch import nn

from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.errors import UserError
from ddpm.networks.architectures.unet import Unet, UnetConfig
from ddpm.run.seeding import generator
from ddpm.sampling.chain import sample_steps
from ddpm.sampling.sample import sample
from ddpm.sampling.sampler import SAMPLERS
from ddpm.sampling.spacing import SPACINGS, timesteps


def test_sample_shapes_and_number_of_steps():
    model = Linear()
    steps = sample(model, 5, return_all_steps=True, generator=generator(0, "a"))
    result = sample(model, 5, generator=generator(0, "a"))
    assert len(steps) == 21
    assert all(x.shape == (5, *SHAPE) for x in steps)
    assert torch.equal(steps[-1], result)
    assert sample(model, 0).shape == (0, *SHAPE)


def test_sample_starts_from_standard_normal_noise():
    x = sample(Linear(), 400, return_all_steps=True, generator=generator(0, "a"))[0]
    n = x.numel()
    assert abs(x.mean()) < 4.5 / n**0.5
    assert abs(x.var() - 1) < 4.5 * (2 / n) ** 0.5


def test_last_step_adds_no_noise():
    model = Linear()
    steps = sample(model, 2, return_all_steps=True, generator=generator(0, "a"))
    with torch.no_grad():
        eps = model(steps[-2], torch.tensor([1, 1]))
    beta = 1e-4  # at t = 1, alpha = alpha_bar = 1 - beta
    expected = (steps[-2] - beta**0.5 * eps) / (1 - beta) ** 0.5
    assert (steps[-1] - expected).abs().max() < 1e-6


def test_chain_does_not_depend_on_its_batch():
    model = Linear()
    *_, together = sample_steps(model, streams(7))
    for i in range(7):
        *_, alone = sample_steps(model, [generator(0, "image", i)])
        assert (together[i] - alone[0]).abs().max() < 1e-6


def test_sample_keeps_training_mode_and_global_rng_state():
    model = Linear()
    model.dropout = nn.Dropout(0.5)
    model.train()
    model.dropout.eval()
    before = torch.get_rng_state()
    sample(model, 2)
    sample(model, 2, generator=generator(0, "a"))
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert not model.dropout.training


def test_sample_disables_dropout_and_gradients():
    class Dropped(Linear):
        def forward(self, images, num_steps):
            return nn.functional.dropout(super().forward(images, num_steps), training=self.training)

    found, expected = (sample(model.train(), 2, generator=generator(0, "a")) for model in (Dropped(), Linear()))
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_sample_without_generator_uses_global_seed():
    model = Linear()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sample(model, 2))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_sample_rejects_negative_n_samples_and_missing_schedule():
    model = Linear()
    with pytest.raises(ValueError, match="n_samples is -1"):
        sample(model, -1)
    model.noise_schedule = None
    with pytest.raises(ValueError, match="no noise_schedule"):
        sample(model, 1)


def test_batch_size_does_not_change_samples():
    whole, parts = (sample(Linear(), 7, generator=generator(0, "a"), batch_size=size) for size in (256, 3))
    assert (whole - parts).abs().max() < 1e-6  # batches may round differently
    steps = sample(Linear(), 7, True, generator(0, "a"), batch_size=3, n_steps=4)
    assert [x.shape for x in steps] == 5 * [(7, *SHAPE)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_supports_fewer_steps(name):
    model = Linear(20)
    steps = timesteps(model.noise_schedule, 6, "karras")
    seeds = torch.randint(2**63 - 1, (3,), generator=generator(0, "a")).tolist()
    own = [torch.Generator().manual_seed(seed) for seed in seeds]
    *_, expected = sample_steps(model, own, steps, name, clip_sample=True)
    found = sample(model, 3, generator=generator(0, "a"), sampler=name, n_steps=6, spacing="karras", clip_sample=True)
    assert torch.equal(found, expected)


def test_options_reach_the_sampler():
    draws = [
        sample(Linear(20), 2, generator=generator(0, "a"), sampler=name, **options)
        for name, options in (
            ("ancestral", {"variance": "fixed_small"}),
            ("ddim", {"eta": 1.0}),
            ("ddim", {"eta": 0.0}),
            ("ancestral", {}),
        )
    ]
    assert (draws[0] - draws[1]).abs().max() < 1e-5  # Song et al. 2021, section 4.1
    assert (draws[1] - draws[2]).abs().max() > 0.01
    assert (draws[0] - draws[3]).abs().max() > 1e-4


def conditional(name="labels", **options):
    model = Unet(UnetConfig((1, 4, 4), 8, (1,), 2, 10, heads=2, conditioning={"name": name, **options}, n_classes=3))
    model.noise_schedule = NoiseSchedule(10)
    return model.eval()


def clustered():
    model = conditional("clusters", n_clusters=4, dropout=0.1)
    model.conditioning.means.copy_(torch.tensor([-1.0, 0.0, 0.5, 1.0]).reshape(4, 1, 1, 1).expand(4, 1, 4, 4))
    model.conditioning.frequencies.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    return model


@pytest.mark.parametrize("model", [Linear(), conditional(dropout=0.1), clustered()], ids=["none", "labels", "clusters"])
def test_samples_do_not_depend_on_n_samples(model):
    many, few = (sample(model, n, generator=generator(0, "a"), n_steps=4) for n in (9, 4))
    assert many.shape == (9, *model.img_shape)
    assert (many[:4] - few).abs().max() < 1e-5  # batches may round differently


def test_each_sample_depends_on_its_own_cond():
    model, cond = clustered(), torch.tensor([3, 0, 3])
    found, other = (sample(model, 3, generator=generator(0, "a"), cond=c, batch_size=2) for c in (cond, cond.flip(0)))
    assert torch.equal(found, other)
    changed = sample(model, 3, generator=generator(0, "a"), cond=torch.tensor([3, 0, 1]), batch_size=2)
    assert torch.equal(found[:2], changed[:2])
    assert (found[2] - changed[2]).abs().max() > 1e-4


def test_guidance_requires_conditioning_dropout():
    with pytest.raises(ValueError, match="guidance_scale is 2; this model was trained without dropout"):
        sample(conditional(dropout=0.0), 2, guidance_scale=2.0)


def test_sample_rejects_cond_with_labels():
    with pytest.raises(ValueError, match="cond and labels are given; only one of them may be"):
        sample(conditional(dropout=0.1), 2, cond=torch.tensor([0, 1]), labels=torch.tensor([0, 1]))


def test_captions_reach_the_network():
    model = conditional("caption", width=8, layers=1, heads=2, dropout=0.2)
    said = ["a dark bag", "a dark bag", "slim trousers"]
    found = sample(model, captions=said, generator=generator(0, "a"))
    assert torch.equal(found, sample(model, 3, cond=model.conditioning.of_captions(said), generator=generator(0, "a")))
    changed = sample(model, captions=[*said[:2], "a light dress"], generator=generator(0, "a"))
    assert torch.equal(found[:2], changed[:2])
    assert (found[2] - changed[2]).abs().max() > 1e-4
    with pytest.raises(UserError, match="unknown word 'blue'"):
        sample(model, captions=["a blue bag"])
    with pytest.raises(ValueError, match="captions has 1 rows; there are 2 images"):
        sample(model, 2, captions=["a bag"])
    with pytest.raises(ValueError, match="n_samples is None; give a number of images, or captions"):
        sample(model)
    with pytest.raises(ValueError, match=r"captions are given \(1\); this model is conditioned on something else"):
        sample(conditional(dropout=0.1), captions=["a bag"])


def test_labels_and_guidance_reach_the_network():
    model, drawn = conditional(dropout=0.1), {}
    for name, arguments in {
        "round robin": {},
        "the same": {"labels": torch.tensor([0, 1, 2])},
        "others": {"labels": torch.tensor([2, 2, 2])},
        "guided": {"guidance_scale": 3.0},
    }.items():
        drawn[name] = sample(model, 3, generator=generator(0, "a"), **arguments)
    assert torch.equal(drawn["round robin"], drawn["the same"])
    assert torch.equal(drawn["others"][2], drawn["the same"][2])
    assert (drawn["others"][:2] - drawn["the same"][:2]).abs().max() > 1e-4
    assert (drawn["guided"] - drawn["the same"]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "none such"}, f"'none such' is not a sampler; allowed: {', '.join(SAMPLERS)}"),
        ({"spacing": "none such"}, f"'none such' is not a spacing; allowed: {', '.join(SPACINGS)}"),
        ({"n_steps": 0}, "n_steps is 0; it must be in 1..20"),
        ({"n_steps": 21}, "n_steps is 21; it must be in 1..20"),
        ({"sampler": "dpmpp_3m", "n_steps": 2}, "n_steps is 2; sampler dpmpp_3m takes at least 3"),
        ({"eta": 0.5}, "eta is 0.5.*options of sampler ancestral: variance"),
        ({"sampler": "ddim", "eta": 2.0}, "eta is 2.0.*options of sampler ddim: eta"),
        ({"variance": "small"}, "variance is 'small'"),
        ({"guidance_scale": 2.0}, "guidance_scale is 2; .*, so it must be 1"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan; it must be from 1 to 100"),
        ({"labels": torch.tensor([0, 1])}, "labels is given; this model is unconditional, so it must be None"),
        ({"cond": torch.tensor([0, 1])}, "cond is given; this model is unconditional, so it must be None"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"clip_sample": 1.0}, "clip_sample is 1.0; it must be false, true or a number between 0 and 1"),
    ],
)
def test_sample_rejects_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample(Linear(20), 2, **arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "labels are .*; allowed: whole numbers 0 to 2"),
        (torch.tensor([0, -1]), "allowed: whole numbers 0 to 2"),
        (torch.tensor([0]), "labels has 1 rows; there are 2 images, so it must have as many"),
    ],
)
def test_sample_rejects_invalid_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        sample(conditional(dropout=0.1), 2, labels=labels)


@pytest.mark.parametrize("number", [-1, 4])
def test_sample_rejects_cond_out_of_range(number):
    model = conditional(dropout=0.1)
    sample(model, 2, cond=torch.tensor([0, 3]), n_steps=2)  # classes are 0 to 2, and 3 means none
    with pytest.raises(ValueError, match=rf"cond is .*{number}.*; allowed: whole numbers 0 to 3, and 3 for none"):
        sample(model, 2, cond=torch.tensor([0, number]), n_steps=2)


def test_on_step_receives_every_step():
    seen = []
    steps = sample(Linear(20), 3, True, generator(0, "a"), n_steps=6, on_step=lambda t, x: seen.append((t, x)))
    assert [t for t, _ in seen] == timesteps(Linear(20).noise_schedule, 6).flip(0).tolist()
    assert all(map(torch.equal, [x for _, x in seen], steps))
