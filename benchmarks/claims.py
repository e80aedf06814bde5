"""Test the claims of the doors' papers (docs/doors.md).

    python -m benchmarks.claims latent       # or: make claims, for every door

Runs each variant of doors/NAME/claims.yaml with each seed, as DVC experiments of the door. It can be interrupted with
Ctrl-C and resumed. Writes benchmarks/results/claims/ and the verdicts in the door's README.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.core.claims import Claims, Result, judge, load_claims
from benchmarks.core.experiments import Cell, Experiment, Measures, Metrics, collect, params_with, reproduce, settings
from benchmarks.core.ledger import Ledger
from benchmarks.core.options import add_work, parser
from benchmarks.core.report import insert, spread, table
from ddpm import recipes
from ddpm.errors import UserError
from ddpm.run.dvc import DOORS
from ddpm.run.files import write_json
from ddpm.run.stage import mistakes_in_one_line

CLAIMS, RESULTS = "claims.yaml", Path("benchmarks/results/claims")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("doors", nargs="*", metavar="DOOR", help="default: all doors")
    add_work(options)
    options.add_argument("--report", action="store_true", help="only write the verdicts of the available runs")
    asked = options.parse_args()
    known = sorted(path.parent.name for path in DOORS.glob(f"*/{CLAIMS}"))
    if unknown := [door for door in asked.doors if door not in known]:
        raise UserError(f"{unknown[0]!r} is not a door with claims; choose from: {', '.join(known)}")
    stated = {door: load_claims(DOORS / door / CLAIMS) for door in asked.doors or known}
    for door, claims in stated.items():  # check everything before any work
        for name in claims.variants:
            params_with(claims.changes(name), DOORS / door)
    for door, claims in stated.items():
        try:
            if not asked.report:
                reproduce(f"{DOORS}/{door}/dvc.yaml")
                wanted = experiments(door, claims)
                collect(ledger(door), claims.stages, wanted, measures(claims), asked.jobs, DOORS / door, asked.remote)
        finally:
            report(door, claims)


def ledger(door: str) -> Ledger:
    """The ledger of a door's runs."""
    return Ledger(RESULTS / f"{door}.csv", ("settings", "variant", "seed"))


def current_settings(door: str, claims: Claims) -> dict[str, str]:
    """The settings digest of each variant, which distinguishes rows with other parameters or data."""
    return {name: settings(claims.stages, claims.changes(name), DOORS / door) for name in claims.variants}


def experiments(door: str, claims: Claims) -> list[Experiment]:
    """The runs that the claims need: each variant with each seed, seed by seed."""
    about = current_settings(door, claims)
    return [
        Experiment(
            {"settings": about[name], "variant": name, "seed": seed},
            recipes.merged(claims.changes(name), {"seed": seed}),
        )
        for seed in claims.seeds
        for name in claims.variants
    ]


def measures(claims: Claims) -> Measures:
    """The contents of a row: every measure that a claim uses of its variant."""

    def chosen(cell: Cell, metrics: Metrics) -> Mapping[str, float]:
        needed = claims.measures(str(cell["variant"]))
        flat = {f"{stage}/{key}": value for stage, found in metrics.items() for key, value in found.items()}
        if missing := [name for name in needed if name not in flat]:
            raise UserError(f"{missing[0]} was not measured; choose from: {', '.join(sorted(flat))}")
        return {name: flat[name] for name in needed}

    return chosen


def report(door: str, claims: Claims) -> None:
    """Write the verdicts: as JSON for the door's page, and as a table in its README."""
    rows = ledger(door).rows()
    about = current_settings(door, claims) if rows else {}
    rows = [row for row in rows if about.get(row["variant"]) == row["settings"]]
    results = [judge(claim, rows, claims.seeds) for claim in claims.claims]
    pairs = list(zip(claims.claims, results, strict=True))
    write_json(
        RESULTS / f"{door}.json", {"claims": [{"claim": c.model_dump(), "result": r._asdict()} for c, r in pairs]}
    )
    insert(DOORS / door / "README.md", markdown(claims, results))
    for claim, result in pairs:
        print(f"{door}: {result.verdict}: {claim.claim}")


def markdown(claims: Claims, results: Sequence[Result]) -> str:
    """A row for each claim."""
    lines = []
    for claim, result in zip(claims.claims, results, strict=True):
        sides = (
            f"{side.variant} {spread(values)}"
            for side, values in zip(claim.sides, (result.better, result.than), strict=True)
        )
        by = "-" if result.advantage is None else f"{result.advantage:.3g} [{result.low:.3g}, {result.high:.3g}]"
        lines.append((claim.claim, claim.source, claim.better.measure, *sides, by, result.verdict))
    return table(("claim", "paper", "measure", "better", "than", "advantage", "verdict"), lines)


if __name__ == "__main__":
    with mistakes_in_one_line("claims"):
        main()
