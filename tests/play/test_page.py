"""The page in a browser, driven as by a user: it shows what the library draws, pixel by pixel."""

from collections.abc import Iterator

import pytest
import torch
from browser import BROWSER, Tab, tab
from play.small import HOST, MODELS, T, levels, seeded, serving
from torch import Tensor

from ddpm import inpaint, interpolate, sample
from ddpm.sampling.spacing import timesteps

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, in which the page is shown")
CALM = """[...document.querySelectorAll('.said')].map(said => /^Drawn/.test(said.textContent)).join()
  == 'true,true,true'"""
READ = """[...document.querySelectorAll('%s canvas')].map(canvas =>
  [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data])"""
DRAW = {"sampler": "unipc", "n_steps": 10, "clip_sample": True}


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Tab]:
    """The page as it opens, in a browser that reaches only this machine."""
    with serving() as server, tab(tmp_path_factory.mktemp("profile")) as browser:
        browser.address = f"http://{HOST}:{server.server_port}/"
        browser.window(1280, 900)
        yield browser


@pytest.fixture
def page(browser) -> Tab:
    browser.events.clear()
    browser.open(browser.address)
    browser.wait(CALM)
    return browser


def shown(page: Tab, part: str) -> Tensor:
    """The pixels of a part's images, (n, 8, 12, 3): grey as three equal channels."""
    return torch.tensor(page.js(READ % part), dtype=torch.uint8).reshape(-1, 8, 12, 4)[..., :3]


def seen(x: Tensor) -> Tensor:
    return levels(x).expand(-1, -1, -1, 3)


def redrawn(page: Tab) -> None:
    """Wait until a change has taken effect."""
    page.js("new Promise(done => setTimeout(done, 250))")  # longer than the page waits for a slider to rest
    page.wait(CALM)


def samples(name: str = "grey", seed: int = 0, n: int = 16, **chosen: object) -> Tensor:
    return sample(MODELS[name], n, generator=seeded(seed), **DRAW | chosen)


def test_page_opens_with_images_and_no_external_requests(page):
    assert torch.equal(shown(page, "#drawn"), seen(samples()))
    assert len(shown(page, "#filled")) == 4
    assert len(shown(page, "#mixed")) == 9
    assert page.mistakes() == []
    assert {address.startswith((page.address, "data:")) for address in page.requests()} == {True}
    assert page.js("[...document.querySelectorAll('.field:not([hidden]) [name]')].map(field => field.name)") == [
        *("network", "sampler", "n_steps", "spacing", "seed")
    ]
    highest = "[...document.querySelectorAll('[name=n_steps], #depth')].map(slider => Number(slider.max))"
    assert page.js(highest) == [T, T]


def test_slider_and_play_button_show_each_step(page):
    steps = sample(MODELS["grey"], 16, True, seeded(0), **DRAW)
    for i in (0, 4, 10):
        page.choose("#moment", i)
        assert torch.equal(shown(page, "#drawn"), seen(steps[i]))
        t = timesteps(MODELS["grey"].noise_schedule, 10).flip(0)[i]
        assert page.js("document.querySelector('#left').textContent") == f"t = {t}"
    page.click("#play")
    page.wait("document.querySelector('#moment').value == 5")
    page.wait("document.querySelector('#moment').value == 10 && document.querySelector('#play').textContent == '▶'")


def test_drawn_samples_match_chosen_settings(page):
    page.choose("[name=network]", "labels")
    page.wait("document.querySelectorAll('[name=label] option').length == 4")
    page.choose("[name=label]", "2")
    page.choose("[name=guidance_scale]", 2.5)
    page.choose("[name=sampler]", "ddim")
    page.choose("[data-option=eta]", 0.5)
    page.choose("[name=n_steps]", 7)
    page.choose("[name=spacing]", "karras")
    page.choose("[name=seed]", 9)
    redrawn(page)
    chosen = {"sampler": "ddim", "eta": 0.5, "n_steps": 7, "spacing": "karras", "guidance_scale": 2.5}
    expected = samples("labels", 9, labels=torch.full((16,), 2), **chosen)
    assert torch.equal(shown(page, "#drawn"), seen(expected))
    assert page.js("document.querySelector('#drawn label').title") == "Sample 1, " + page.js(
        "document.querySelector('[name=label]').selectedOptions[0].textContent"
    )
    page.choose("[name=label]", "")  # each in turn
    redrawn(page)
    expected = samples("labels", 9, labels=torch.arange(16) % 3, **chosen)
    assert torch.equal(shown(page, "#drawn"), seen(expected))
    assert page.mistakes() == []


def filled(name: str, image: Tensor, mask: Tensor, seed: int) -> Tensor:
    """As the page requests it: from an image as shown, in 8 bits."""
    images = (levels(image[None]).permute(0, 3, 1, 2) / 255 * 2 - 1).expand(4, *image.shape)
    options = {"n_steps": 10, "spacing": "karras", "n_resamples": 5, "clip_sample": True}
    return inpaint(MODELS[name], images, mask, seeded(seed), **options)


def test_area_masked_with_mouse_is_inpainted(page):
    page.click("#drawn label:nth-child(3)")
    page.click("[data-half='']")
    redrawn(page)
    image = samples()[2]
    assert torch.equal(shown(page, "#filled"), seen(image[None]).expand(4, -1, -1, -1))  # nothing is hidden
    page.choose("#brush", 0)
    x, y = page.middle("#mask")
    width, height = page.js(
        "{ const box = document.querySelector('#mask').getBoundingClientRect(); [box.width, box.height] }"
    )
    left, pixel = x - width / 2, width / 12
    row = y - height / 2 + 2.5 * pixel  # the middle of the third row
    page.drag([(left + (column + 0.5) * pixel, row) for column in (4, 9)])
    redrawn(page)
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[2, 4:10] = True
    assert torch.equal(shown(page, "#filled"), seen(filled("grey", image, mask, 0)))
    page.click("#again")
    redrawn(page)
    assert torch.equal(shown(page, "#filled"), seen(filled("grey", image, mask, 1)))


def test_mask_can_be_painted_with_keyboard(page):
    page.click("[data-half='']")
    page.choose("#brush", 0)
    page.js("document.querySelector('#mask').focus()")
    for key in ["ArrowUp", "ArrowLeft", " ", "ArrowLeft", " "]:  # from the middle, (4, 6)
        page.key(key)
    redrawn(page)
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[3, 4:6] = True
    assert torch.equal(shown(page, "#filled"), seen(filled("grey", samples()[0], mask, 0)))


def test_interpolation_between_seeds_matches_library(page):
    page.choose("#other", 4)
    page.choose("#depth", 15)
    redrawn(page)
    ends = [samples()[0], samples(seed=4, n=1)[0]]
    pixels = [levels(end[None]).permute(0, 3, 1, 2)[0] / 255 * 2 - 1 for end in ends]
    between = interpolate(MODELS["grey"], *pixels, 7, 15, seeded(0), n_steps=10, spacing="karras", clip_sample=True)
    expected = torch.cat((seen(ends[0][None]), seen(between), seen(ends[1][None])))
    assert torch.equal(shown(page, "#mixed"), expected)


def test_error_is_shown_until_setting_is_corrected(page):
    page.choose("[name=sampler]", "ancestral")
    page.choose("[data-option=variance]", "learned")
    page.wait("/learned/.test(document.querySelector('.mistake')?.textContent)")
    page.choose("[data-option=variance]", "fixed_small")
    redrawn(page)
    assert page.js("document.querySelectorAll('.mistake').length") == 0
    assert torch.equal(shown(page, "#drawn"), seen(samples(sampler="ancestral", variance="fixed_small")))


def test_keyboard_reaches_all_controls(page):
    """Tab moves between controls, and arrows choose a sample."""
    page.js("document.activeElement.blur()")
    reached = []
    for _ in range(24):
        page.key("Tab")
        reached.append(page.js("{ const now = document.activeElement; now.name || now.id || now.textContent }"))
    wanted = ["network", "sampler", "n_steps", "spacing", "seed", "drawn", "play", "moment", "mask", "Upper half"]
    wanted += ["brush", "resamples", "again", "other", "depth"]
    assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted
    page.js("document.querySelector('#drawn input').focus()")
    page.key("ArrowRight")
    redrawn(page)
    assert torch.equal(shown(page, "#mixed")[0], seen(samples()[1:2])[0])


@pytest.mark.parametrize(
    ("width", "phone", "scheme"), [(390, True, "light"), (1280, False, "dark"), (320, True, "dark")]
)
def test_page_fits_phones_and_follows_color_scheme(browser, width, phone, scheme):
    browser.window(width, 844, phone, scheme)
    browser.open(browser.address)
    browser.wait(CALM)
    assert browser.js("document.documentElement.scrollWidth") == width
    paper, ink = (browser.js(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    light, dark = (255, 255, 255), (23, 27, 34)
    assert paper == f"rgb{dark if scheme == 'dark' else light}"
    assert ink != paper
    fields = "[...document.querySelectorAll('button, select, input:not([type=radio])')]"
    small = f"{fields}.filter(field => field.offsetHeight && field.offsetHeight < 40)"
    assert browser.js(f"{small}.length") == 0  # CSS pixels, for touch
    browser.window(1280, 900)
