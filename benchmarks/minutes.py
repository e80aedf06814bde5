"""Quality after 1, 2, 5, 10 and 20 minutes of training on two CPU cores: this project, three public ones, the course's.

    make benchmark                          # everything; or piece by piece:
    python benchmarks/minutes.py rate       # how fast each trains, on a quiet machine
    python benchmarks/minutes.py run --only diffusers --minutes 1 2
    python benchmarks/minutes.py report     # the table and the figure of the rows that are there

How minutes are counted, and what is kept: race.py. Ours has a learning rate that falls to zero, so each number of
minutes is a run of its own; the peers' is constant, and one run passes through all of them. Writes reports/benchmark/
and the result in docs/benchmark.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contenders import COURSE, OURS, Contender, own_contenders
from peers import PEERS
from race import Evaluator, Images, Race, alone, checked, common_arguments, splits
from report import figure, insert, markdown

from ddpm.run.params import Params, load_params
from ddpm.errors import UserError
from ddpm.figures.canvas import save

REPORTS, DOC = Path("reports/benchmark"), Path("docs/benchmark.md")
NAMES = (OURS, COURSE, *PEERS)
SEEDS = (0, 1, 2)


def arguments() -> argparse.Namespace:
    parser = common_arguments(__doc__, NAMES)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 5.0, 10.0, 20.0], help="of training")
    return checked(parser)


def work(options: argparse.Namespace) -> None:
    if options.phase == "report":
        return report(Race(REPORTS, {}), options.n_samples)
    params = load_params()
    race, images = Race(REPORTS, chosen(options.only, params)), load(params)
    if options.n_samples > len(images.real):
        raise UserError(f"--n-samples is {options.n_samples}; {len(images.real)} real images were not trained on")
    if not race.rated(options, images.train):
        return None
    evaluator = Evaluator(images.reference, params.threads)

    def seeds(name: str) -> Sequence[int]:
        return options.seeds or (SEEDS if name == OURS else SEEDS[:1])

    for _ in race.run(images, evaluator, options.minutes, seeds, options.n_samples):
        report(race, options.n_samples)
    return report(race, options.n_samples)


def chosen(names: Sequence[str], params: Params) -> dict[str, Contender]:
    """The contenders of these names, in the order of NAMES."""
    own = {contender.name: contender for contender in own_contenders()}
    wanted = [name for name in NAMES if name in names]
    return {name: own[name] if name in own else PEERS[name](params.threads) for name in wanted}


def load(params: Params) -> Images:
    """Nobody trains on the rest of the training split; all are held against the test split."""
    train, unseen, test = splits(params.train_unet.n_train)
    return Images(train, real=unseen, reference=test)


def report(race: Race, n_samples: int) -> None:
    """Table and figure of the rows that are there."""
    floor, rows = race.rows(n_samples)
    if rows:
        rates = race.all_rates()
        picture = "![Quality against minutes of training](../reports/benchmark/minutes.png)"
        insert(DOC, f"{markdown(rows, floor, rates)}\n\n{picture}")
        save(figure(rows, floor, rates["machine"]), REPORTS / "minutes.png")


if __name__ == "__main__":
    try:
        alone(work, arguments())
    except UserError as error:
        sys.exit(f"minutes: {error}")
    except KeyboardInterrupt:
        sys.exit("minutes: stopped; run it again to go on")
