"""A door's page shows all of its numbers, and works offline."""

import json
import re
from html import unescape

import pytest
import torch
from page_reader import Page, decoded
from project import REPO
from safetensors.torch import save_file

from benchmarks.core.claims import Claims, Result
from ddpm.captions.vocabulary import tokens
from ddpm.doors.page import TEMPLATES, load_film, render
from ddpm.figures.page import Picture

SIDES = {"better": {"variant": "f4", "measure": "evaluate/fid"}, "than": {"variant": "f1", "measure": "evaluate/auc"}}
CLAIM = {"claim": "f4 < f1", "source": "figure 6", "direction": "lower", **SIDES}


def report(value):
    estimate = {"value": value, "low": value - 0.25, "high": value + 0.25}
    floor = {"value": 0.125, "low": 0.0, "high": 0.1875}
    fid = {"samples": estimate, "floor": floor, "better": "lower", "sees": "kinds & outlines"}
    return {"reference": "test", "n_samples": 99, "headline": "auc", "metrics": {"fid": fid}}


def page(result, captions={}, films={}):  # noqa: B006, never changed
    claims = Claims.model_validate(
        {"stages": ["evaluate"], "seeds": [0, 1], "variants": {"f4": {}, "f1": {}}, "claims": [CLAIM]}
    )
    return render(
        "Toy <door>",
        "About it.",
        "dvc repro doors/toy/dvc.yaml",
        films,
        [Picture("data:image/webp;base64,AAAA", "data:image/webp;base64,BBBB", 40, 30, "A caption.", "An alt text")],
        {"samples": report(2.5), "reconstructions": report(1.75)},
        captions,
        [{"claim": claims.claims[0].model_dump(), "result": result._asdict()}],
        {"seed": 7, "train": {"lr": 0.375}},
        {"reports/a.json": "0123"},
    )


def has(text, word):
    """Whether a text without tags has a word or number that is not part of a longer one."""
    return re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text)


def test_page_shows_all_inputs():
    text = unescape(re.sub(r"<[^>]+>", " ", page(Result([1.0], [2.0], 1.0625, 0.5625, 1.5625, "confirmed"))))
    for word in (
        *("Toy <door>", "About it.", "dvc repro doors/toy/dvc.yaml", "A caption.", "kinds & outlines", "99"),
        *("2.5", "2.25", "2.75", "1.75", "0.125", "0.1875", "samples", "reconstructions"),
        *("f4 < f1", "figure 6", "evaluate/fid", "evaluate/auc", "1.062", "0.5625", "1.562", "confirmed"),
        *("seed", "7", "lr", "0.375", "reports/a.json", "0123"),
    ):
        assert has(text, word), word
    assert "not run yet" not in text


def test_page_shows_captions_only_when_given():
    def share(value):
        return {"value": value, "low": value - 0.0625, "high": value + 0.0625}

    shares = {"seen": {"whole": share(0.875), "tone": share(0.75)}, "withheld": {"whole": share(0.625)}}
    text = unescape(re.sub(r"<[^>]+>", " ", page(Result([], []), shares)))
    assert "Captions" not in page(Result([], []))
    for word in (
        "Captions",
        "seen",
        "withheld",
        "whole caption",
        "tone",
        "0.875",
        "0.8125",
        "0.75",
        "0.625",
        "0.5625",
    ):
        assert has(text, word), word


@pytest.mark.parametrize("captioned", [True, False])
def test_film_has_the_frames_and_captions_of_its_file(captioned, tmp_path):
    draw = torch.Generator().manual_seed(0)
    steps, estimates = (torch.randint(256, (3, 2, 1, 4, 5), dtype=torch.uint8, generator=draw) for _ in range(2))
    said = ["a dark bag", "trousers"]
    tensors = {"steps": steps, "estimates": estimates, "num_steps": torch.tensor([10, 5, 0])}
    save_file(tensors | ({"filmed": tokens(said)} if captioned else {}), tmp_path / "drawn.safetensors")
    text = page(Result([], []), films={"Base model": load_film(tmp_path / "drawn.safetensors")})
    [chain] = [json.loads(a["data-chain"]) for a, _ in Page(text).all("figure") if "data-chain" in a]
    shown = [[torch.tensor(decoded(uri)) for uri in uris] for uris in chain["shown"]]
    for found, expected in zip(shown, [*steps.unbind(1), *estimates.unbind(1)], strict=True):
        assert torch.equal(torch.stack(found), expected[:, 0])
    assert chain["steps"] == [10, 5, 0]
    assert ("From left to right: a dark bag; trousers." in text) == captioned
    alts = [a["alt"] for a, _ in Page(text).all("img") if a.get("class") == "pixels"]
    assert len(alts) == 4
    assert all(alt.endswith(f": {caption}") == captioned for alt, caption in zip(alts, said * 2, strict=True))


def test_untested_claim_is_marked_not_run_yet():
    assert "not run yet" in page(Result([], []))


def test_page_has_no_external_links_and_templates_exist():
    text = page(Result([], []))
    assert re.findall(r'(?:src|srcset|href)="(?!data:|#)|https?:|@import|url\(', text) == []
    [policy] = [a["content"] for a, _ in Page(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    sources = {source for directive in policy.split("; ") for source in directive.split()[1:]}
    assert sources <= {"'none'", "data:", "'unsafe-inline'"}
    assert all((REPO / path).is_file() for path in TEMPLATES)
