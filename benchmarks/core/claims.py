"""Claims of a paper, tested again: two sides, measured over the same seeds, and a verdict by an interval.

`doors/NAME/claims.yaml` states them before anything is run.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Len, MinLen
from pydantic import model_validator
from scipy.stats import t as student

from benchmarks.core.ledger import Row
from ddpm.errors import UserError
from ddpm.run.params import Section, validated
from ddpm.run.yaml import load_yaml

LEVEL = 0.95  # of the intervals
Verdict = Literal["confirmed", "not confirmed", "reversed", "not run yet"]
Text = Annotated[str, MinLen(1)]


class Side(Section):
    """variant: whose runs are measured; measure: STAGE/KEY of reports/STAGE/metrics.json."""

    variant: Text
    measure: Annotated[str, MinLen(3)]

    @model_validator(mode="after")
    def _has_a_stage(self) -> "Side":
        if "/" not in self.measure:
            raise ValueError(f"measure is {self.measure}; it must be STAGE/KEY, a number of the stage's metrics.json")
        return self


class Claim(Section):
    """A claim: that one side's measure is better than the other's.

    claim: in words. source: where the paper says it. better, than: the two sides. direction: which way is better.
    """

    claim: Text
    source: Text
    better: Side
    than: Side
    direction: Literal["lower", "higher"]

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides, the better one first."""
        return self.better, self.than


class Claims(Section):
    """A door's claims.yaml.

    stages: those that are run for each variant; what they read of other stages stays as it stands. seeds: of each
    variant. variants: changes to the door's params.yaml, by name. claims: what is tested.
    """

    stages: Annotated[list[str], MinLen(1)]
    seeds: Annotated[list[Annotated[int, Ge(0)]], Len(2, 100)]
    variants: Annotated[dict[str, dict[str, Any]], MinLen(1)]
    claims: Annotated[list[Claim], MinLen(1)]

    @model_validator(mode="after")
    def _sides_are_there(self) -> "Claims":
        for side in (side for claim in self.claims for side in claim.sides):
            if side.variant not in self.variants:
                raise ValueError(f"variant {side.variant!r} is none of {', '.join(self.variants)}")
            if side.measure.partition("/")[0] not in self.stages:
                raise ValueError(f"measure {side.measure!r} is of none of the stages {', '.join(self.stages)}")
        return self

    @property
    def measures(self) -> list[str]:
        """All measures, each once."""
        return sorted({side.measure for claim in self.claims for side in claim.sides})


class Result(NamedTuple):
    """What the runs say of a claim.

    Attributes:
        better: The measure of the side that is claimed to be better, a value a seed.
        than: That of the other side, of the same seeds.
        advantage: By how much the first is better, a mean over the seeds; negative if it is worse.
        low: The lower end of its interval, which holds the true mean in LEVEL of all repetitions.
        high: The upper end.
        verdict: "confirmed" if the whole interval lies above 0, "reversed" if it lies below.
    """

    better: list[float]
    than: list[float]
    advantage: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict = "not run yet"


def load_claims(path: Path) -> Claims:
    """Read a claims.yaml.

    Raises:
        UserError: One line for each mistake.
    """
    return validated(Claims, load_yaml(path), path.as_posix())


def judge(claim: Claim, rows: Sequence[Row], seeds: Sequence[int]) -> Result:
    """Judge a claim by the runs of its two sides, seed by seed.

    Args:
        claim: The claim.
        rows: The ledger's rows, of one setting: variant, seed and measures.
        seeds: Those that a verdict needs.

    Raises:
        UserError: A run has no such measure.
    """
    found: dict[tuple[str, int], Row] = {(row["variant"], int(row["seed"])): row for row in rows if not row["failure"]}
    if any((side.variant, seed) not in found for side in claim.sides for seed in seeds):
        return Result([], [])
    values = [[_number(found[side.variant, seed], side.measure) for seed in seeds] for side in claim.sides]
    better, than = values
    sign = 1 if claim.direction == "higher" else -1
    advantages = [sign * (first - second) for first, second in zip(better, than, strict=True)]
    low, high = interval(advantages)
    verdict: Verdict = "confirmed" if low > 0 else "reversed" if high < 0 else "not confirmed"
    return Result(better, than, mean(advantages), low, high, verdict)


def interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean of a few independent values, of a normal distribution (Student 1908)."""
    margin = float(student.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return mean(values) - margin, mean(values) + margin


def _number(row: Mapping[str, str], measure: str) -> float:
    try:
        return float(row[measure])
    except (KeyError, ValueError):
        raise UserError(f"{row['variant']}, seed {row['seed']}: no number under {measure}") from None
