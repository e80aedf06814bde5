"""Stage render: captions by guidance scale, holes and what fills them, and what guidance trades."""

from pathlib import Path

from ddpm.figures.canvas import save
from ddpm.figures.captioned import caption_grid, frontier, holes_table
from ddpm.figures.reports import read_rows
from ddpm.images import from_uint8
from ddpm.run.files import load_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.prompted import SampleCaptions

SAMPLES, FILLED, SWEEP = "samples/captions.safetensors", "samples/inpaint.safetensors", "reports/sweep/sweep.csv"
GRID, HOLES, FRONTIER = (f"reports/figures/{name}.png" for name in ("captions", "inpainting", "frontier"))


def main(stage: StageRun) -> None:
    grid, filled = load_tensors(Path(SAMPLES))["grid"], load_tensors(Path(FILLED))
    shown = caption_grid(from_uint8(grid), stage.params.grid.captions, stage.params.grid.scales)
    save(shown, GRID, "Samples by caption and guidance scale.", "Rows of items of clothing, one row a caption")
    words = "Real images, the same with a hole, and the hole filled by two methods."
    save(holes_table(filled), HOLES, words, "Rows of items of clothing with parts missing and filled in")
    save(frontier(read_rows(Path(SWEEP))), FRONTIER, "Precision by recall.", "Two curves of precision by recall")


STAGES = {
    "render": Stage(
        main,
        section=SampleCaptions,
        key="sample",
        general=(),
        deps=[SAMPLES, FILLED, SWEEP],
        plots=[GRID, HOLES, FRONTIER],
    )
}

if __name__ == "__main__":
    run(STAGES)
