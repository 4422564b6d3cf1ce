"""What was added: the invented share of detail, and the promise about the part that is marked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from trustscale_server.conformal import added
from trustscale_server.conformal.added import COUNTED, STEPS, Marked, excess, threshold


def picture(random: np.random.Generator, quality: float) -> tuple[np.ndarray, np.ndarray]:
    """A and I of a picture whose score is better the larger `quality` is."""
    score, noise = random.random(300), random.normal(0, 0.25, 300)
    invented = np.clip(score - quality + noise, 0, 1).astype(np.float32)
    codes = np.floor(score * STEPS).astype(np.uint8)
    energy = random.exponential(1, 300).astype(np.float32)
    one = Marked.from_cells(codes[None], energy[None], invented[None])
    return one.marked, one.invented


def pictures(random: np.random.Generator, count: int, quality: float) -> list[np.ndarray]:
    return [
        np.stack(rows)
        for rows in zip(*(picture(random, quality) for _ in range(count)), strict=True)
    ]


def test_detail_along_the_truth_is_real_and_across_it_is_invented():
    """Half of what is missing is wholly real, twice as much is half invented, its opposite all."""
    missing = np.full((8, 8), 4.0, np.float32)
    for share, expected in ((0.5, 0), (1, 0), (2, 0.25), (-1, 1), (-0.1, 1)):
        q = added.invented_share(share**2 * missing, share * missing, missing)
        assert q == pytest.approx(expected, abs=1e-5), share
    across = added.invented_share(missing, 0 * missing, missing)
    assert across == pytest.approx(1)


def test_what_is_marked_is_added_up_cell_by_cell():
    """A(t) and I(t) are the sums over the cells with s < t, as shares of the visible detail."""
    random = np.random.default_rng(1)
    codes = random.integers(0, 80, (7, 9)).astype(np.uint8)
    energy, q = random.random((2, 7, 9)).astype(np.float32)
    found = Marked.from_cells(codes, energy, q)
    visible = energy[codes < STEPS].sum()
    for k in range(STEPS + 1):
        inside = codes < k
        assert found.marked[k] == pytest.approx(energy[inside].sum() / visible, abs=1e-5)
        assert found.invented[k] == pytest.approx((energy * q)[inside].sum() / visible, abs=1e-5)


def test_a_picture_to_which_nothing_was_added_is_neither_for_nor_against():
    """All its cells are unchanged, and x is 0 at every threshold."""
    codes = np.full((4, 4), 255, np.uint8)
    found = Marked.from_cells(codes, np.ones((4, 4), np.float32), np.ones((4, 4), np.float32))
    assert not excess(found.marked[None], found.invented[None], 0.3).any()


def test_the_loss_stays_within_its_range():
    """x lies in [−ρ, 1 − ρ], whatever A and I are, so its bets leave no wealth below 0."""
    random = np.random.default_rng(2)
    marked = np.sort(random.random((50, STEPS + 1)).astype(np.float32), axis=1)
    for share in (0, 1):
        x = excess(marked, share * marked, 0.3)
        assert x.min() >= -0.3 - 1e-9
        assert x.max() <= 0.7 + 1e-9


@pytest.mark.parametrize("robust", [1.0, 1.5])
def test_the_threshold_is_the_last_before_the_first_that_fails(robust):
    """It agrees with the definition, threshold by threshold and bet by bet."""
    random = np.random.default_rng(3)
    marked, invented = pictures(random, 60, 0.35)
    rho, delta = 0.3, 0.1
    expected = 0
    for k in range(int(np.ceil(rho * STEPS)), STEPS + 1):
        wealth, best, seen, squares = 1.0, 1.0, [], 0.0
        largest = 1 - rho
        for place in range(60):
            a, i = float(marked[place, k]), float(invented[place, k])
            x = (i - rho * a) / max(a, COUNTED)
            if robust > 1:
                worst = -0.5 * rho
                x = worst + robust * max(x - worst, 0)
                largest = worst + robust * (1 - rho - worst)
            variance = (0.02 * 10 + squares) / (place + 10)
            bet = min(0.95 / largest, np.sqrt(2 * np.log(1 / delta) / (60 * variance)))
            wealth *= 1 - bet * x
            best = max(best, wealth)
            seen.append(x)
            squares += (x - sum(seen) / (place + 1 + 10)) ** 2
        if best * delta < 1:
            break
        expected = k
    assert expected > 0
    assert threshold(marked, invented, rho, delta=delta, robust=robust) == expected


def test_a_scene_counts_once_by_the_weights_of_its_pairs():
    """Two pairs of a scene are the weighted mean of their losses, and a weight of 0 is left out."""
    random = np.random.default_rng(4)
    marked, invented = pictures(random, 80, 0.35)
    alone = threshold(marked, invented, 0.3)
    twice = [np.repeat(each, 2, axis=0) for each in (marked, invented)]
    scenes = np.repeat(np.arange(80), 2).tolist()
    assert threshold(*twice, 0.3, scenes=scenes, weights=[0.25, 0.75] * 80) == alone
    worst = np.ones_like(marked)
    others = [np.concatenate([marked, worst]), np.concatenate([invented, worst])]
    assert threshold(*others, 0.3, weights=[1.0] * 80 + [0.0] * 80) == alone


def law(random: np.random.Generator, count: int, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Scenes whose E[x(t)] is a little above 0 at every t: nothing may be marked."""
    grid = np.linspace(0, 1, STEPS + 1)
    shares = random.beta(2, 3, (count, 1)) * (rho + 0.001) / 0.4
    marked = np.broadcast_to(np.maximum(grid, COUNTED) * (grid > 0), (count, STEPS + 1))
    return marked.astype(np.float32), (marked * np.minimum(shares, 1)).astype(np.float32)


def test_a_calibration_breaks_its_promise_as_seldom_as_it_says():
    """Where every marked threshold is wrong, at most δ of the calibrations mark anything."""
    random = np.random.default_rng(5)
    rho, delta, trials = 0.3, 0.2, 1500
    wrong = sum(threshold(*law(random, 40, rho), rho, delta=delta) > 0 for _ in range(trials))
    assert wrong / trials <= delta + 3 * np.sqrt(delta * (1 - delta) / trials)
    assert wrong > 0


def test_many_thresholds_cost_nothing():
    """Along a curve that crosses ρ, a threshold beyond the crossing is as seldom as promised."""
    random = np.random.default_rng(6)
    rho, delta, trials, wrong = 0.3, 0.2, 300, 0
    expected = excess(*pictures(np.random.default_rng(7), 5_000, 0.12), rho).mean(axis=0)
    assert expected[20] < 0 < expected[-1]
    for _ in range(trials):
        k = threshold(*pictures(random, 40, 0.12), rho, delta=delta)
        wrong += bool(k) and expected[k] > 0
    assert wrong / trials <= delta


def test_harder_pictures_are_promised_to():
    """For scenes reweighted by up to Γ, chosen against the threshold, the loss stays at most 0."""
    random = np.random.default_rng(8)
    rho, gamma, delta, broken = 0.4, 1.5, 0.1, 0
    population = excess(*pictures(np.random.default_rng(9), 5_000, 0.45), rho)
    for _ in range(60):
        k = threshold(*pictures(random, 120, 0.45), rho, delta=delta, robust=gamma)
        if k:
            worst = np.sort(population[:, k])[::-1]
            broken += worst[: int(len(worst) / gamma)].mean() > 0
    assert broken / 60 <= delta


def test_more_robust_marks_less():
    """A mask for harder pictures is part of the usual one."""
    random = np.random.default_rng(10)
    marked, invented = pictures(random, 120, 0.4)
    found = [threshold(marked, invented, 0.4, robust=gamma) for gamma in (1, 1.25, 1.5, 2)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0


@pytest.mark.parametrize(
    "wrong", [{"rho": 0}, {"rho": 1}, {"delta": 0}, {"robust": 0.5}, {"robust": np.inf}]
)
def test_promises_that_are_none_are_refused(wrong):
    """ρ and δ lie between 0 and 1, and Γ is at least 1."""
    rows = np.zeros((3, STEPS + 1), np.float32)
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold(rows, rows, **{"rho": 0.3, **wrong})


def test_without_scenes_nothing_is_marked():
    """An empty calibration promises nothing."""
    nothing = np.empty((0, STEPS + 1), np.float32)
    assert threshold(nothing, nothing, 0.3) == 0


def test_no_rule_that_marks_anything_keeps_the_promise_in_expectation():
    """Why there is a δ: where each threshold is wrong, a rule that marks anything breaks it."""
    rho = 0.5
    rises = [0, 1]  # what of one marked unit is invented: 0 or 1, with equal chances and a bit
    for chance in (0.51, 0.6):
        outcomes = list(itertools.product(rises, repeat=3))
        law_of = [np.prod([chance if r else 1 - chance for r in o]) for o in outcomes]
        marks = [sum(o) < 2 for o in outcomes]  # any rule of three scenes
        expected = sum(p * (chance - rho) for p, m in zip(law_of, marks, strict=True) if m)
        assert expected > 0
