"""Stage sample: samples of the decoder for captions and their embeddings, and for the figures."""

from pathlib import Path

from ddpm.networks.checkpoint import load_model
from ddpm.run.files import load_tensors, save_tensors
from ddpm.run.stage import Stage, StageRun, run
from ddpm.sampling.decoder import SampleDecoder, draw_decoded

DECODER, SAMPLES = "models/decoder.safetensors", "samples/captions.safetensors"
SIGNALS = ["samples/prompts.safetensors", "samples/figures.safetensors"]


def main(stage: StageRun) -> None:
    prompts, figures = (load_tensors(Path(path)) for path in SIGNALS)
    decoder = load_model(DECODER).to(stage.compute.device)
    save_tensors(Path(SAMPLES), **draw_decoded(stage, decoder, prompts, figures))


STAGES = {"sample": Stage(main, section=SampleDecoder, deps=[*SIGNALS, DECODER], outs=[SAMPLES], resumes=True)}

if __name__ == "__main__":
    run(STAGES)
