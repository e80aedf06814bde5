"""Stage prompt: captions of held-out images to draw samples for."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from ddpm.captions.prompts import choose_prompts
from ddpm.captions.split import load_split
from ddpm.data.dataset import load_dataset
from ddpm.run.files import save_tensors
from ddpm.run.params import Section
from ddpm.run.stage import Stage, StageRun, run

IMAGES, CAPTIONS = "../../data/images/held_out.safetensors", "../captions/data/held_out.safetensors"
PROMPTS = "data/prompts.safetensors"


class Prompt(Section):
    """Section `prompt`. n_seen: number of captions without a withheld pair. n_withheld: number with one."""

    n_seen: Annotated[int, Ge(1), Le(5000)]
    n_withheld: Annotated[int, Ge(1), Le(5000)]


def main(stage: StageRun) -> None:
    labels, params = load_dataset(Path(IMAGES)).labels, stage.params
    assert labels is not None  # else there would be no captions
    prompts = choose_prompts(load_split(Path(CAPTIONS)), labels, params.n_seen, params.n_withheld, stage.seed)
    save_tensors(Path(PROMPTS), **prompts._asdict())


STAGES = {"prompt": Stage(main, section=Prompt, general=("seed",), deps=[IMAGES, CAPTIONS], outs=[PROMPTS])}

if __name__ == "__main__":
    run(STAGES)
