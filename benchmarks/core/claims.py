"""Claims of a paper: two sides measured over the same seeds, and a verdict based on a confidence interval.

`doors/NAME/claims.yaml` states them before anything is run.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Len, MinLen
from pydantic import Field, model_validator
from scipy.stats import t as student

from benchmarks.core.ledger import Row
from ddpm import recipes
from ddpm.errors import UserError
from ddpm.run.params import Section, validated
from ddpm.run.yaml import load_yaml

LEVEL = 0.95  # confidence level of the intervals
Verdict = Literal["confirmed", "not confirmed", "reversed", "not run yet"]
Text = Annotated[str, MinLen(1)]


class Side(Section):
    """variant: the variant that is measured. measure: STAGE/KEY in reports/STAGE/metrics.json."""

    variant: Text
    measure: Annotated[str, MinLen(3)]

    @model_validator(mode="after")
    def _has_a_stage(self) -> "Side":
        if "/" not in self.measure:
            raise ValueError(f"measure is {self.measure}; it must be STAGE/KEY, a number in the stage's metrics.json")
        return self


class Claim(Section):
    """The claim that one side's measure is better than the other's.

    claim: the claim in words. source: where the paper makes it. better, than: the two sides. direction: which values
    are better.
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

    stages: the stages that are run for each variant. Outputs of other stages are used as they are. seeds: the seeds of
    each variant. common: changes to the door's params.yaml in every variant. variants: further changes, by name.
    claims: the claims to test.
    """

    stages: Annotated[list[str], MinLen(1)]
    seeds: Annotated[list[Annotated[int, Ge(0)]], Len(2, 100)]
    common: dict[str, Any] = Field(default_factory=dict)
    variants: Annotated[dict[str, dict[str, Any]], MinLen(1)]
    claims: Annotated[list[Claim], MinLen(1)]

    @model_validator(mode="after")
    def _sides_are_there(self) -> "Claims":
        for side in (side for claim in self.claims for side in claim.sides):
            if side.variant not in self.variants:
                raise ValueError(f"variant {side.variant!r} is not one of {', '.join(self.variants)}")
            if side.measure.partition("/")[0] not in self.stages:
                raise ValueError(f"measure {side.measure!r} is not from one of the stages {', '.join(self.stages)}")
        return self

    def changes(self, variant: str) -> dict[str, Any]:
        """All changes of a variant to the door's params.yaml."""
        return recipes.merged(self.common, self.variants[variant])

    def measures(self, variant: str) -> list[str]:
        """The distinct measures that claims need of a variant."""
        return sorted({side.measure for claim in self.claims for side in claim.sides if side.variant == variant})


class Result(NamedTuple):
    """The result of testing a claim.

    Attributes:
        better: The measure of the side claimed to be better, one value per seed.
        than: The measure of the other side, for the same seeds.
        advantage: By how much the first side is better, averaged over the seeds. Negative if it is worse.
        low: Lower end of its confidence interval at LEVEL.
        high: Upper end.
        verdict: "confirmed" if the whole interval is above 0, "reversed" if it is below.
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
    """Judge a claim by the runs of its two sides, paired by seed.

    Args:
        claim: The claim.
        rows: The ledger's rows for one setting: variant, seed and measures.
        seeds: The seeds that a verdict requires.

    Raises:
        UserError: A run lacks the measure.
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
    """Student's t interval for the mean of independent, normally distributed values (Student 1908)."""
    margin = float(student.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return mean(values) - margin, mean(values) + margin


def _number(row: Mapping[str, str], measure: str) -> float:
    try:
        return float(row[measure])
    except (KeyError, ValueError):
        raise UserError(f"{row['variant']}, seed {row['seed']}: no number under {measure}") from None
