"""The figures of the variational bound: what an image costs in bits, step by step and for each T."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ddpm.figures.canvas import BLUE, INK, ORANGE, SERIES, curve_panels, legend_above, styled

PARTS = {
    "L_T": (SERIES[2], r"$L_T$: pure noise to $x_T$"),
    "L_between": (ORANGE, r"$L_{T-1}$ to $L_1$: $x_T$ to $x_1$"),
    "L_0": (BLUE, r"$L_0$: $x_1$ to pixels"),
}
BAR = 0.36


@styled
def rate_distortion(rows: Sequence[Mapping[str, str]], n_images: int, label: str) -> Figure:
    """Figure 5: what is known of an image, and for how many bits, as the reverse process goes on.

    rows: of reports/bound/test.csv, t = 0 to T; n_images: behind them, each at some steps.
    """
    names = ["distortion by step", "rate by step", "distortion by rate"]
    figure, panels = curve_panels(
        f"Figure 5 of Ho et al. 2020: {label}",
        f"{n_images:,} test images, sent by chains of {len(rows) - 1:,} steps. Rate: the bits that a receiver needs to "
        "know x_t. Distortion: how far what the network then takes for the image is from it, in levels of 0 to 255. "
        "Most bits go into the last steps, which change the picture least.",
        "noise steps left, t",
        "distortion (RMSE, levels of 255)",
        names,
        share_y=False,
    )
    t, distortion = ([float(row[key]) for row in rows] for key in ("t", "distortion"))
    by_step, rate_by_step, by_rate = panels
    by_step.plot(t[1:], distortion[1:], color=INK, linewidth=1.8)
    variances = [key.removeprefix("rate_") for key in rows[0] if key.startswith("rate_")]
    for variance, color in zip(variances, SERIES, strict=False):
        rate = [float(row[f"rate_{variance}"]) for row in rows]
        rate_by_step.plot(t, rate, label=variance, color=color, linewidth=1.8)
        by_rate.plot(rate[1:], distortion[1:], label=variance, color=color, linewidth=1.8)
    rate_by_step.set_ylabel("rate (bits/dim)")
    by_rate.set_xlabel("rate (bits/dim)")
    for axes in (by_step, rate_by_step):
        axes.invert_xaxis()
    for axes in panels:
        axes.set_ylim(bottom=0)
    legend_above(figure, panels, ncols=len(variances))
    return figure


@styled
def bound_by_steps(rows: Sequence[Mapping[str, str]], entropy: float, label: str) -> Figure:
    """The bound of the exact denoiser for each schedule and T, in its three parts, over the entropy of the data.

    rows: of reports/evaluate_tiny/bound.csv; those of the tiny model stand on its own schedule.
    """
    tiny = next(row for row in rows if row["denoiser"] == "tiny")
    schedules = list(dict.fromkeys(row["schedule"] for row in rows))
    figure, panels = curve_panels(
        f"Code length of gradients: {label}",
        "The variational bound (equation 5) of the exact denoiser, in its parts; left bars: fixed_small, right and "
        f"paler: fixed_large; under the word tiny: the network, with T = {tiny['max_steps']}. Dashed: the entropy, the "
        "least that any code needs. Even the best denoiser stays above: its decoder codes each pixel on its own.",
        "number of steps T",
        "bits/dim",
        [schedule.replace("_", " ") for schedule in schedules],
    )
    for axes, schedule in zip(panels, schedules, strict=True):
        chosen = [row for row in rows if row["schedule"] == schedule]
        steps = sorted({int(row["max_steps"]) for row in chosen if row["denoiser"] == "exact"})
        places = {("exact", str(T)): i for i, T in enumerate(steps)}
        if schedule == tiny["schedule"]:
            places["tiny", tiny["max_steps"]] = len(places)
        for row in chosen:
            left = row["variance"] == "fixed_small"
            x = places[row["denoiser"], row["max_steps"]] + (-BAR if left else BAR) / 2
            bottom = 0.0
            for part, (color, words) in PARTS.items():
                height = float(row[part])
                axes.bar(x, height, BAR, bottom, color=color, alpha=1 if left else 0.55, label=words if left else "")
                bottom += height
            axes.errorbar(x, bottom, float(row["margin"]), color=INK, linewidth=1.2)
        axes.axhline(entropy, color=INK, linestyle="--", linewidth=1.2, label=f"entropy: {entropy:.3f}")
        axes.set_xticks(list(places.values()), [T if who == "exact" else who for who, T in places])
        axes.grid(False, axis="x")
        axes.set_axisbelow(True)
    legend_above(figure, panels, ncols=4)
    return figure
