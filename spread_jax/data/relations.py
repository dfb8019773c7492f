"""Columns that are exact linear combinations of others, with coefficients as a user wrote them."""

from dataclasses import dataclass

import numpy as np

from spread_jax.data.columns import EPS, Column, mean_and_scale
from spread_jax.data.standardization import Floats


@dataclass(frozen=True)
class Relation:
    """Column ``column`` is intercept + Σ coefficient x component, to rounding; columns from 0."""

    column: int
    components: list[int]
    coefficients: list[float]
    intercept: float

    def computed(self, columns: list[Column], numbers: dict[int, np.ndarray]) -> Floats:
        """The column from its components; rounded as it was, where that is no less true."""
        terms = []
        for c, j in zip(self.coefficients, self.components, strict=True):
            divisor = _divisor(c)  # so that metres / 0.0254 are the inches that the user computed
            terms.append(numbers[j] / divisor if divisor else c * numbers[j])
        exact: Floats = np.sum(terms, axis=0) + self.intercept
        size = sum(map(np.abs, terms)) + abs(self.intercept)
        eps = max(columns[j].eps for j in [self.column, *self.components])
        rounded = columns[self.column].to_step(exact)
        as_true = np.abs(rounded - exact) <= 2 * eps * size
        return columns[self.column].stored(np.where(as_true, rounded, exact))

    def formula(self, columns: list[Column]) -> str:
        """As a user would write it, "height + income" say."""
        terms = []
        for c, j in zip(self.coefficients, self.components, strict=True):
            name = columns[j].name
            text = name if isinstance(name, str) else columns[j].label
            divisor = _divisor(c)
            if divisor:
                text += f" / {abs(divisor):.15g}"
            elif abs(c) != 1:
                text = f"{abs(c):.15g} {text}"
            terms.append((c, text))
        if self.intercept:
            terms.append((self.intercept, f"{abs(self.intercept):.15g}"))
        first = next((term for term in terms if term[0] > 0), terms[0])  # 1 - a, not - a + 1
        terms = [first, *(term for term in terms if term is not first)]
        signed = "".join(f" {'-' if sign < 0 else '+'} {term}" for sign, term in terms)
        return signed.removeprefix(" + ").lstrip()


def relations_among(columns: list[Column], numbers: dict[int, np.ndarray]) -> list[Relation]:
    """The columns to leave out since others give them, in the order of computing them back.

    Args:
      columns: all of the table.
      numbers: of those columns that hold numbers which vary, by their place from 0.
    """
    search = _Search(columns, numbers)
    if len(numbers) > 1:
        # copies first, so that they are copies, and not sums of what they are copies of
        search.leave_out_copies()
        search.leave_out_sums()
    # the last found first: a component that was left out later is there before it is needed
    return search.found[::-1]


class _Search:
    """Finds the columns that others give, and leaves them out one after the other."""

    def __init__(self, columns: list[Column], numbers: dict[int, np.ndarray]) -> None:
        self.columns, self.numbers = columns, numbers
        self.kept, self.found = list(numbers), list[Relation]()
        self.z, self.scale = dict[int, Floats](), dict[int, float]()
        for j, y in numbers.items():
            mean, self.scale[j] = mean_and_scale(y[:, None])
            self.z[j] = (y - mean) / self.scale[j]

    def leave_out_copies(self) -> None:
        order = list(self.kept)
        z = np.stack([self.z[j] for j in order], axis=1)
        correlation = z.T @ z / len(z)
        for later, earlier in np.argwhere(np.tril(np.abs(correlation) > 1 - 1e-6, -1)):
            i, j = order[earlier], order[later]
            if i in self.kept and j in self.kept:
                self._leave_one_out(j, [i], [float(correlation[later, earlier])])

    def leave_out_sums(self) -> None:
        order = list(self.kept)
        design = np.stack([np.ones(len(self.z[order[0]])), *(self.z[j] for j in order)], axis=1)
        rows = len(design)
        # in column k of R, from the diagonal down, is what the columns before leave over of it
        r: Floats = np.asarray(np.linalg.qr(design, mode="r"))

        def least_squares(target: int, components: list[int]) -> Floats:
            before = r[:, [0, *(1 + i for i in components)]]
            return np.asarray(np.linalg.lstsq(before, r[:, 1 + target], rcond=None)[0][1:], float)

        for k in range(1, min(len(order), len(r) - 1)):
            before = [i for i in range(k) if order[i] in self.kept]
            if abs(r[k + 1, k + 1]) > 0.1 * np.sqrt(rows) or not before:
                continue
            size = np.abs(least_squares(k, before))
            # the fewest columns first: what has a small coefficient may have it by rounding
            for threshold in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 0.0):
                chosen = [i for i, each in zip(before, size, strict=True) if each > threshold]
                b = least_squares(k, chosen).tolist()
                if self._leave_one_out(order[k], [order[i] for i in chosen], b):
                    break

    def _leave_one_out(self, target: int, components: list[int], b: list[float]) -> bool:
        """Leaves out a column of the relation target = Σ b component, standardized, if exact."""
        with np.errstate(all="ignore"):
            c = {
                j: each * (self.scale[target] / self.scale[j])
                for j, each in zip(components, b, strict=True)
            }
            relation = self._exact(target, c, leave_out=False)
            if relation is None:
                return False
            weights = dict(zip(components, relation.coefficients, strict=True)) | {target: -1.0}
            size = {j: abs(w) * float(np.abs(self.numbers[j]).max()) for j, w in weights.items()}
            # a difference of large numbers would have fewer digits than their sum
            large = {j: size[j] >= 0.5 * max(size.values()) for j in weights}
            on_step = {j: self._stays_on_step(j, weights) for j in weights}
            varies = {j: float(f"{abs(w) * self.scale[j]:.6g}") for j, w in weights.items()}

            def rank(j: int) -> tuple[bool, bool, float, int]:
                return on_step[j], large[j], varies[j], j

            for j in sorted(weights, key=rank, reverse=True):
                others = {i: -weights[i] / weights[j] for i in sorted(weights) if i != j}
                if on_step[j] or self.columns[j].is_float:
                    relation = self._exact(j, others, leave_out=True)
                    if relation is not None:
                        self.found.append(relation)
                        self.kept.remove(j)
                        return True
        return False

    def _stays_on_step(self, target: int, weights: dict[int, float]) -> bool:
        """Whether the target falls on its own step whatever numbers the others take on theirs."""
        decimals = self.columns[target].decimals
        if decimals is None:
            return True
        for j, weight in weights.items():
            step = self.columns[j].step
            steps = abs(weight / weights[target]) * (step or np.nan) * 10.0**decimals
            if j != target and not abs(steps - np.rint(steps)) <= 1e-9 * max(1.0, steps):
                return False
        return True

    def _exact(self, target: int, weights: dict[int, float], leave_out: bool) -> Relation | None:
        """target = intercept + Σ weight column, weights as short as the data allow; else None."""
        y, c = self.numbers[target], list(weights.values())
        if not np.all(np.isfinite(c)) or not all(c) or len(y) <= 2 * (len(c) + 1):
            return None
        tolerance = sum(
            abs(weight) * max(2 * self.columns[j].eps, 16 * EPS) * np.abs(self.numbers[j]).max()
            for j, weight in {target: 1.0, **weights}.items()
        )
        # numbers that differ in their last digits only would follow from anything
        if not c or (leave_out and not 100 * tolerance <= y.max() - y.min()):
            return None

        def left_over(c: list[float]) -> Floats:
            return y - sum(a * self.numbers[j] for a, j in zip(c, weights, strict=True))

        if not np.ptp(left_over(c)) <= 2 * tolerance:
            return None
        tried = ([_shortened(each, digits) for each in c] for digits in range(1, 17))
        c = next((short for short in tried if np.ptp(left_over(short)) <= 2 * tolerance), c)
        left = left_over(c)
        middle = float(left.min() / 2 + left.max() / 2)
        short = (0.0, *(_shortened(middle, digits) for digits in range(1, 17)))
        near = (each for each in short if np.abs(left - each).max() <= tolerance)
        return Relation(target, list(weights), c, next(near, middle))


def _divisor(c: float) -> float:
    """What c is one over, if that is short and c is not; else 0."""
    divisor = float(f"{1 / c:.6g}")
    is_short = float(f"{c:.6g}") == c
    return divisor if not is_short and 0 < abs(divisor) < np.inf and 1 / divisor == c else 0.0


def _shortened(c: float, digits: int) -> float:
    """The nearest of the numbers of so many digits, and of one over these."""
    if c == 0 or not np.isfinite(1 / c):
        return c
    plain, inverse = float(f"{c:.{digits - 1}e}"), 1 / float(f"{1 / c:.{digits - 1}e}")
    return plain if abs(plain - c) <= abs(inverse - c) else inverse
