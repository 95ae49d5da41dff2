"""The linear ordering problem: the order of least cost where every pair has a cost for each of its two directions.

A linear program over "i stands before j", whose triangle constraints (no i before j before k before i) are added only
where a solution breaks them; whole numbers are asked for only where the program alone stays fractional (Groetschel,
Juenger and Reinelt 1984 showed that it seldom does). The bound of the linear program isn't the solver's word: it is
computed anew from the dual values, in a way that holds for any dual values (Neumaier and Shcherbina 2004).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Broken triangles added at a time, per item: enough that few rounds are needed, few enough that each stays fast.
_PER_ITEM = 20
_BROKEN = 1e-6
_FOREVER_S = 1e9
# Costs are whole numbers, and the bound is a float: only what lies this far above one is rounded up to the next.
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class LinearOrder:
    """An order, its cost, and a proved lower bound of every order's cost."""

    order: list[int]
    cost: int
    bound: int


def linear_order(
    weight: NDArray[np.int64], prior: NDArray[np.int64], step: int, deadline: float = math.inf
) -> LinearOrder:
    """Finds an order of least cost.

    Args:
        weight: (c, c) costs in whole numbers; [i, j] is paid where j stands before i.
        prior: An order to start from.
        step: Costs count in steps of so many, the rest only breaks ties: whole-number programming, which may take long,
            is left out where order and bound lie within one step.
        deadline: On the clock of `time.monotonic`; the best so far is returned then.
    """
    relaxed = _RelaxedOrder(weight)
    best = improved(weight, list(prior))
    bound = relaxed.trivial_bound
    while True:
        cost = cost_of(weight, best)
        if bound >= cost or time.monotonic() >= deadline:
            return LinearOrder(best, cost, min(bound, cost))
        found = relaxed.solve(deadline)
        if found is None:
            return LinearOrder(best, cost, min(bound, cost))
        before, proved = found
        bound = max(bound, math.ceil(proved - _ROUNDING))
        if before is None:
            return LinearOrder(best, cost, min(bound, cost))
        # The fractional solution is a guide: most pairs are settled in it.
        rounded = improved(weight, list(np.argsort(-before.sum(axis=1), kind="stable")))
        best = min(best, rounded, key=lambda order: cost_of(weight, order))
        if not relaxed.cut(before):
            cost = cost_of(weight, best)
            if bound >= cost or relaxed.whole or bound // step == cost // step:
                return LinearOrder(best, cost, min(bound, cost))
            relaxed.whole = True


def cost_of(weight: NDArray[np.int64], order: list[int]) -> int:
    """What an order costs: [i, j] for every j that stands before i."""
    return int(np.tril(weight[np.ix_(order, order)], -1).sum())


def improved(weight: NDArray[np.int64], order: list[int]) -> list[int]:
    """Local search: items move to their best place, one after the other, until none has a better one."""
    order = list(order)
    moved = True
    while moved:
        moved = False
        for item in tuple(order):
            place = order.index(item)
            rest = np.array(order[:place] + order[place + 1 :], dtype=np.int64)
            # At place s: [item, x] is paid for the s items x before it, [x, item] for those after it.
            before = np.concatenate(([0], np.cumsum(weight[item, rest])))
            after = np.concatenate((np.cumsum(weight[rest, item][::-1])[::-1], [0]))
            price = before + after
            target = int(price.argmin())
            if price[target] < price[place]:
                order = [*rest[:target].tolist(), item, *rest[target:].tolist()]
                moved = True
    return order


class _RelaxedOrder:
    """The program with the triangle constraints found so far.

    Variables are x[i, j] for i < j, 1 where i stands before j. A triangle i < j < k says
    0 <= x[i, j] + x[j, k] - x[i, k] <= 1; `sign` 1 is its upper side, -1 the lower one.
    """

    def __init__(self, weight: NDArray[np.int64]) -> None:
        self.c = len(weight)
        self.above = np.triu_indices(self.c, 1)
        self.index = np.zeros((self.c, self.c), dtype=np.int64)
        self.index[self.above] = np.arange(len(self.above[0]))
        forward, backward = weight[self.above], weight.T[self.above]
        # i before j costs weight[j, i]; start from every pair the other way round.
        self.constant = int(forward.sum())
        # In units of the mean, so that the solver's absolute tolerances mean the same at every scale.
        gain = (backward - forward).astype(np.float64)
        self.scale = max(1.0, float(np.abs(gain).mean()))
        self.gain = gain / self.scale
        self.trivial_bound = int(np.minimum(forward, backward).sum())
        self.triangles = np.empty((0, 4), dtype=np.int64)  # i, j, k, sign
        self.whole = False

    def solve(self, deadline: float) -> tuple[NDArray[np.float64] | None, float] | None:
        """The solution as a (c, c) matrix of "before" (None where time ran out), and a lower bound if there is one."""
        from scipy.optimize import linprog

        left = deadline - time.monotonic()
        if left <= 0:
            return None
        rows, limits = self._constraint_rows()
        answer = linprog(  # type: ignore[call-overload]  # its stubs know neither sparse rows nor mip_rel_gap
            self.gain,
            A_ub=rows,
            b_ub=limits,
            bounds=(0, 1),
            integrality=np.full(len(self.gain), int(self.whole)),
            method="highs",
            options={"time_limit": min(left, _FOREVER_S), "mip_rel_gap": 0.0},
        )
        if self.whole:
            bound = answer.mip_dual_bound
        elif answer.status == 0:
            # Valid for ANY dual values y >= 0, so also for those of a solver that rounds.
            y = np.maximum(0.0, -answer.ineqlin.marginals)
            bound = np.minimum(0.0, self.gain + y @ rows).sum() - y @ limits
        else:
            bound = None
        if bound is None:
            return None
        before = None
        if answer.status == 0:
            before = np.zeros((self.c, self.c))
            before[self.above] = answer.x
            before.T[self.above] = 1 - answer.x
        return before, self.constant + self.scale * float(bound)

    def _constraint_rows(self) -> tuple[csr_array[np.float64], NDArray[np.float64]]:
        """The triangles as rows A (t, pairs) and limits b (t,) of A x <= b."""
        from scipy.sparse import csr_array

        i, j, k, sign = self.triangles.T
        columns = np.stack((self.index[i, j], self.index[j, k], self.index[i, k]), axis=1)
        values = np.stack((sign, sign, -sign), axis=1).astype(np.float64)
        row = np.repeat(np.arange(len(sign)), 3)
        shape = (len(sign), len(self.gain))
        return csr_array((values.ravel(), (row, columns.ravel())), shape=shape), (sign > 0).astype(np.float64)

    def cut(self, before: NDArray[np.float64]) -> bool:
        """Adds the triangles that are broken most; False where none is."""
        found, amount = [], []
        for j in range(1, self.c - 1):
            excess = before[:j, j, None] + before[j, j + 1 :] - before[:j, j + 1 :]
            for sign, broken in ((1, excess - 1), (-1, -excess)):
                i, k = np.nonzero(broken > _BROKEN)
                if len(i):
                    found.append(np.stack((i, np.full_like(i, j), k + j + 1, np.full_like(i, sign)), axis=1))
                    amount.append(broken[i, k])
        if not found:
            return False
        triangles, by = np.concatenate(found), np.concatenate(amount)
        worst = np.argsort(-by, kind="stable")[: _PER_ITEM * self.c]
        self.triangles = np.concatenate((self.triangles, triangles[worst]))
        return True
