"""The verdict on a table, and its reasons in words."""

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from spread_jax.data.intrinsic_dimension import MIN_ROWS
from spread_jax.data.modes import ATOM_SHARE
from spread_jax.data.numbers import named
from spread_jax.data.standardization import Floats

if TYPE_CHECKING:
    from spread_jax.data.diagnosis import Diagnosis

Verdict = Literal["degenerate", "nearly degenerate", "full-dimensional"]

THIN = 0.01  # of the scale
LOW_DIMENSION = 0.8  # of what noise shows


def judge(
    facts: "Diagnosis", largest_share: Floats, constant_to_rounding: list[int]
) -> tuple[Verdict, list[str], list[str]]:
    """The verdict, its reasons, and what else is worth a note, in whole sentences but for the stop.

    Args:
      facts: what was found; its verdict and reasons are not looked at.
      largest_share: the share of rows with a column's most frequent value, ``[columns]``.
      constant_to_rounding: those of the constant columns that vary by rounding.
    """
    degenerate, nearly, notes = list[str](), list[str](), list[str]()
    varying = facts.dim - len(facts.constant_columns)
    most_rank = min(varying, facts.rows - 1)
    exactly = [j for j in facts.constant_columns if j not in constant_to_rounding]
    if exactly:
        degenerate.append(f"{_are(facts, exactly)} constant")
    if constant_to_rounding:
        degenerate.append(f"{_are(facts, constant_to_rounding)} constant but for rounding")
    if facts.dependent_columns:
        columns = _are(facts, facts.dependent_columns)
        several = len(facts.dependent_columns) > 1
        combinations = "linear combinations" if several else "a linear combination"
        degenerate.append(f"{columns} {combinations} of columns to the left")
    if facts.rank < most_rank:
        gap = ""
        if facts.rank:
            above, below = facts.spectrum[facts.rank - 1 : facts.rank + 1]
            gap = f", with a gap in the spectrum from {above:.1g} to {below:.1g}"
        degenerate.append(
            f"rank {facts.rank} of {varying} varying columns, at tolerance "
            f"{facts.tolerance:.1g} of a column's scale{gap}"
        )
    if most_rank < varying:
        notes.append(
            f"{facts.rows:,} rows cannot fill {varying:,} dimensions: a flexible likelihood can "
            "run away on them whatever their law"
        )

    atoms = [j for j in facts.discrete_columns if largest_share[j] >= ATOM_SHARE]
    grid = [j for j in facts.discrete_columns if largest_share[j] < ATOM_SHARE]
    if atoms:
        degenerate.append(
            f"{_are(facts, atoms)} discrete, with one value in {ATOM_SHARE:.0%} of the rows or "
            f"more (up to {largest_share[atoms].max():.1%}): a component can sit on it and shrink"
        )
    if grid:
        low, high = facts.distinct_values[grid].min(), facts.distinct_values[grid].max()
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        nearly.append(
            f"{_are(facts, grid)} discrete, with {span} distinct values in {facts.rows:,} rows: "
            "a grid, no density"
        )
    if facts.duplicate_rows:
        verb = "repeats" if facts.duplicate_rows == 1 else "repeat"
        text = f"{facts.duplicate_rows:,} of {facts.rows:,} rows {verb} an earlier row"
        (nearly if facts.duplicate_rows / facts.rows >= ATOM_SHARE else notes).append(text)

    # least singular value of noise with as many rows: 1 - √(dim / rows), Marchenko and Pastur
    aspect = math.sqrt(min(1.0, facts.rank / max(1, facts.rows - 1)))
    full = facts.spectrum[: facts.rank]
    thin = full[full < THIN * (1 - aspect)]
    if thin.size:
        nearly.append(
            f"{thin.size} of {facts.rank} principal directions thinner than {THIN:.0%} of a "
            f"column's scale, down to {thin.min():.1g}"
        )

    full_text = "no constant, dependent or discrete column, no thin direction"
    if facts.intrinsic_dimension:
        value, (lower, upper), nearest, (of_noise, nearest_of_noise) = facts.intrinsic_dimension
        estimate = f"intrinsic dimension {value:.3g}"
        noise = f"where as many points of noise of rank {facts.rank} show {of_noise:.3g}"
        full_text += f"; {estimate}, {noise}"
        text = f"{estimate} ({lower:.3g} to {upper:.3g}), {noise}"
        if upper < LOW_DIMENSION * of_noise and nearest < LOW_DIMENSION * nearest_of_noise:
            degenerate.append(f"{text}: the points lie on a thin set")
        elif upper < LOW_DIMENSION * of_noise:
            nearly.append(f"{text}; nearer by, the set has a thickness")
    elif facts.rank:
        notes.append(f"fewer than {MIN_ROWS} distinct rows: too few for an intrinsic dimension")
    if degenerate:
        return "degenerate", degenerate + nearly, notes
    if nearly:
        return "nearly degenerate", nearly, notes
    return "full-dimensional", [full_text], notes


def scales_differ(scale: Floats) -> list[str]:
    """A note where one σ_fix cannot serve columns of these scales, ``[columns]``."""
    scale = scale[scale > 0]
    if scale.size and scale.max() / 100 > scale.min():
        return [
            f"column scales from {scale.min():.2g} to {scale.max():.2g}: standardize first, as fit "
            "does, since one σ_fix serves all columns"
        ]
    return []


def few_digits(names: list[str | int], step: Floats, scale: Floats) -> list[str]:
    """A note on columns that are stored in steps of more than 1 % of their scale.

    Args:
      names, step, scale: of the columns that vary; step and scale in their own units.
    """
    few = np.flatnonzero(step > THIN * scale)
    if not few.size:
        return []
    first = few[0]
    column = f"column {names[first]!r}"
    where = f"{column}, which" if few.size == 1 else f"{named([names[j] for j in few])}; {column}"
    return [
        f"few digits are left in {where} is stored in steps of {step[first]:.2g}, "
        f"and its standard deviation is {scale[first]:.2g}: take off its offset, or use a longer "
        "dtype, before it is stored"
    ]


def _are(facts: "Diagnosis", columns: list[int]) -> str:
    verb = "is" if len(columns) == 1 else "are"
    return f"{named([facts.columns[j] for j in columns])} {verb}"
