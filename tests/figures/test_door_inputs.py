"""The figures of the doors are drawn from the right tensors of the right files."""

from pathlib import Path

import pytest
import torch
from figures.drawn import assert_shows, legend, points, random_images, rows
from figures.made_up import SECTIONS, SEED
from project import REPO
from safetensors.torch import save_file

from ddpm.captions.vocabulary import tokens
from ddpm.data.dataset import load_dataset
from ddpm.figures import dalle2, glide, imagen, latent
from ddpm.figures.losses import Losses
from ddpm.figures.trained import load_trained
from ddpm.images import to_uint8
from ddpm.run.compute import Compute
from ddpm.run.stage import StageRun
from ddpm.run.tracking.record import Run
from ddpm.run.yaml import load_yaml
from ddpm.sampling.prompted import SampleCaptions

CAPTIONS = ["a dark dress", "a boot"]
LAST = {"prior": 0.5, "decoder": 0.25, "base": 0.125, "super": 0.75, "inpaint": 0.375}  # training losses


def losses(name):
    return Losses([(1, 1.0), (2, LAST[name])], [(2, 1.0)], "eps", "simple")


def load(door, params):
    return door.load(StageRun("render", params, SEED, Compute(), Run()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("reports/sweep").mkdir(parents=True)
    Path("reports/sweep/sweep.csv").write_text("method,scale\nCLIP,1.0\n")
    for door in (dalle2, glide, imagen):
        monkeypatch.setattr(door, "load_losses", losses)


def write(**files):
    """Write files of named tensors, and return their images in [0, 1]."""
    Path("samples").mkdir(exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, f"samples/{name}.safetensors")
    images = {(name, key): each for name, tensors in files.items() for key, each in tensors.items()}
    return {key: each / 255 for key, each in images.items() if each.dtype == torch.uint8}


def pictures(*shape, seed):
    return to_uint8(random_images(*shape, 1, 8, 8, seed=seed))


@pytest.mark.usefixtures("folder")
def test_dalle2_loads_its_samples_and_captions():
    first = tokens(CAPTIONS)[:, None].repeat(1, 3, 1)
    first[:, 1:] = 0  # only the first of each caption's rows is read
    drawn = {"by_scale": pictures(2, 2, 3, seed=0), "by_signal": pictures(2, 3, 3, seed=1)}
    images = write(
        figures={"tokens": first},
        captions={"scales": torch.tensor([1.0, 3.0]), **drawn},
        vary={name: pictures(4, seed=2 + i) for i, name in enumerate(("originals", "variations", "between"))},
        edit={"shares": torch.tensor([0.0, 0.5]), "b": pictures(2, 2, seed=5), "b/of": pictures(2, seed=6)}
        | {"a": pictures(2, 2, seed=7), "a/of": pictures(2, seed=8)},
    )
    found = load(dalle2, dalle2.Render(n_columns=2))
    assert (found.captions, found.scales, found.shares) == (CAPTIONS, [1, 3], [0, 0.5])
    assert torch.equal(found.by_scale, images["captions", "by_scale"])
    assert torch.equal(found.by_signal, images["captions", "by_signal"])
    assert all(torch.equal(each, images["vary", name]) for name, each in found.varied.items())
    assert all(torch.equal(each, images["edit", name]) for name, each in found.edited.items())
    assert found.differences == ["a", "b"]
    assert found.losses == {"prior": losses("prior"), "decoder": losses("decoder")}
    assert [*found.sweep] == [{"method": "CLIP", "scale": "1.0"}]
    expected = [
        [*images["edit", of][:, i]] if i >= 0 else [*images["edit", f"{of}/of"]] for of in "ab" for i in (-1, 0, 1)
    ]
    figure = dalle2.TOPIC.figures["edits"].draw(found)
    assert_shows(figure, expected)
    assert rows(figure) == ["a, original", "0", "0.5", "b, original", "0", "0.5"]


@pytest.mark.usefixtures("folder")
def test_glide_figures_show_grid_filled_holes_and_losses():
    holes = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    holes[:, :, :3] = True
    filled = {name: pictures(2, seed=i) for i, name in enumerate(("images", "trained", "replaced"))}
    images = write(captions={"grid": pictures(2, 2, 1, seed=3)}, inpaint={**filled, "holes": holes})
    params = load_yaml(REPO / "doors/glide/params.yaml")["sample"]
    params |= {"grid": {"captions": CAPTIONS, "scales": [1.0, 3.0], "n": 1}}
    found = load(glide, SampleCaptions.model_validate(params))
    figures = {name: entry.draw(found) for name, entry in glide.TOPIC.figures.items() if name != "guidance"}
    assert_shows(figures["captions"], [[*row[:, 0]] for row in images["captions", "grid"]])
    assert rows(figures["captions"]) == CAPTIONS
    original, trained, replaced = (images["inpaint", name] for name in ("images", "trained", "replaced"))
    masked = original.clone()
    masked[:, :, :3] = 0.45
    assert_shows(figures["inpainting"], [[*each] for each in (original, masked, trained, replaced)])
    assert rows(figures["inpainting"]) == ["original", "hole", "trained", "replaced"]
    for name in ("base", "inpaint"):
        assert points(figures[f"{name}_loss"].axes[0].lines[0]) == [(1, 1.0), (2, LAST[name])]


@pytest.mark.usefixtures("folder")
def test_guidance_figure_labels_methods_and_scales():
    """Each scale is written beside its point: recall to the right, precision up."""
    write(captions={"grid": pictures(1, 1, 1, seed=3)}, inpaint={"images": pictures(1, seed=0)})
    lines = "classifier-free,1,0.25,0.75", "classifier-free,2.5,0.5,0.625", "CLIP,8,0.125,0.875"
    Path("reports/sweep/sweep.csv").write_text("\n".join(("method,scale,recall,precision", *lines)))
    figure = glide.TOPIC.figures["guidance"].draw(load(glide, None))
    assert legend(figure) == ["classifier-free guidance", "CLIP guidance"]
    written = {text.get_text(): text.xy for text in figure.axes[0].texts}
    assert written == {"1": (0.25, 0.75), "2.5": (0.5, 0.625), "8": (0.125, 0.875)}


@pytest.mark.usefixtures("folder")
def test_imagen_loads_samples_of_each_step_of_the_cascade():
    low = random_images(3, 1, 4, 4, seed=3)
    cond = torch.cat((2 * low - 1, torch.full((3, 1, 4, 4), 0.25)), dim=1)  # the last channel is the level
    images = write(
        guide={
            "samples": pictures(2, 2, 2, 1, seed=0),
            "clip_samples": torch.tensor([0.5, 1.0]),
            "guidance_scales": torch.tensor([1.0, 4.0]),
            "tokens": tokens(CAPTIONS),
        },
        base={"samples": pictures(3, seed=1)[..., :4, :4].contiguous()},
        super={"samples": pictures(3, seed=2), "cond": cond},
    )
    found = load(imagen, imagen.Render(n_columns=2, n_captions=1))
    assert torch.equal(found.guided, images["guide", "samples"])
    assert (found.captions, found.scales, found.level) == (CAPTIONS, [1, 4], 0.25)
    assert [*found.clips] == ["dynamic, 0.5", "static"]
    assert torch.equal(found.low, images["base", "samples"][:2])
    assert torch.allclose(found.noised, low[:2], atol=1e-6)
    assert torch.equal(found.samples, images["super", "samples"][:2])
    assert found.losses == {"base": losses("base"), "super": losses("super")}


@pytest.mark.usefixtures("copied")
def test_latent_loads_originals_reconstructions_and_test_images(monkeypatch):
    """The made-up U-Net stands in for the network of latents."""
    asked = []
    monkeypatch.setattr(
        latent, "load_dataset", lambda path: asked.append(str(path)) or load_dataset(path.relative_to("../.."))
    )
    monkeypatch.setattr(latent, "load_trained", lambda name, *rest: asked.append(name) or load_trained("unet", *rest))
    images = write(
        reconstructions={"images": pictures(3, seed=0), "samples": pictures(3, seed=1)},
        guide={"samples": pictures(2, 2, 1, seed=2), "tokens": tokens(CAPTIONS), "scales": torch.tensor([1.0, 3.0])},
    )
    found = load(latent, SECTIONS["render_unet"])
    assert asked == ["../../data/images/test.safetensors", "latent"]
    assert torch.equal(found.network.real, load_dataset(Path("data/images/test.safetensors")).images[:4] / 255)
    assert torch.equal(found.originals, images["reconstructions", "images"])
    assert torch.equal(found.reconstructions, images["reconstructions", "samples"])
    assert torch.equal(found.guided, images["guide", "samples"])
    assert (found.captions, found.scales) == (CAPTIONS, [1, 3])
