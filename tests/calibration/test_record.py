"""The parts of a calibration, and whom each of its pairs counts for."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from harness.factories import made_of, with_arrays
from trustscale_server.calibration import calibration as record
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantee_kinds import Expectation, HighProbability, PostHoc
from trustscale_server.calibration.ways import calibrated_ways
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.kinds.degradation import Mixture
from trustscale_server.kinds.features import UPLOAD


def test_one_about_pictures_is_for_their_sizes(calibration):
    """Exactly those of its pairs, in this orientation."""
    sizes = [{"width": 48, "height": 32}, {"width": 64, "height": 64}]
    made = made_of(calibration, sizes, fidelity=FidelitySettings(unit="picture"))
    everything = made.everything
    assert everything.sizes == {(48, 32), (64, 64)}
    assert everything.answers_size(32, 48)
    assert not everything.answers_size(48, 32)
    assert not everything.answers_size(64, 48)


def test_a_group_is_for_its_own_sizes(calibration):
    """No promise about pictures of a size is made by pairs of other sizes."""
    sizes = [{"width": 48, "height": 32, "group": "a"}, {"width": 64, "height": 64, "group": "b"}]
    made = made_of(calibration, sizes, fidelity=FidelitySettings(unit="picture"))
    assert made.subset("a").sizes == {(48, 32)}
    assert not made.subset("a").answers_size(64, 64)


WAYS = Mixture(
    mixture=[{"way": "lossless"}, {"way": "jpeg-85", "jpeg": 90}], shares={"lossless": 3}
)


def mixed(template, seed=0, scenes=9):
    """Pictures made in two ways, some read as of the other class, with spots of random losses.

    Every third scene has two pictures. The losses are given, too.
    """
    random = np.random.default_rng(seed)
    updates, losses = [], []
    for scene in range(scenes):
        for picture in range(1 + (scene % 3 == 0)):
            count = int(random.integers(1, 4))
            for way in ("lossless", "jpeg-85"):
                strays = random.random() < 0.3
                other = "jpeg-85" if way == "lossless" else "lossless"
                updates.append(
                    {
                        "name": f"{scene}.{picture}~{way}",
                        "scene": str(scene),
                        "variant": way,
                        "input_class": other if strays else way,
                        "x_sha256": random.bytes(32).hex(),
                    }
                )
                # 8 significant bits, so that they are kept as they are.
                losses.append(random.integers(0, 256, count) / 256)
    made = made_of(template, updates, losses, fields={"degradation": WAYS}, input_rule=UPLOAD)
    return made, updates, losses


class TestStrays:
    """Pairs count for the class that they are read as, by how frequent their way is."""

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("name", "share"), [("lossless", 0.75), ("jpeg-85", 0.25), (None, 1)])
    def test_the_curve_of_a_class(self, calibration, name, share, seed):
        """It is that of a random spot of a random scene, given that the upload is of the class.

        Ways are as frequent as they are stated. A scene counts 1 where as much of it is of the
        class as of the way that is meant for that.
        """
        made, updates, losses = mixed(calibration, seed)
        part = made.everything.of_class(name)
        total = weights = 0.0
        for scene in {one["scene"] for one in updates}:
            own = [k for k, one in enumerate(updates) if one["scene"] == scene]
            # Of each picture as many spots as of the other ways.
            spots = sum(len(losses[k]) for k in own) / 2
            chances = {
                k: {"lossless": 0.75, "jpeg-85": 0.25}[updates[k]["variant"]]
                * len(losses[k])
                / spots
                for k in own
                if name in {None, updates[k]["input_class"]}
            }
            if chances:
                weight = min(1, sum(chances.values()) / share)
                mean = sum(chance * losses[k].mean() for k, chance in chances.items())
                total += weight * mean / sum(chances.values())
                weights += weight
        risk = (total + part.bound) / (weights + 1)
        assert part.curve.risk(0.6) == pytest.approx(risk, rel=1e-6)
        assert part.curve.risk(0.4) == pytest.approx(part.bound / (weights + 1), rel=1e-6)
        assert part.curve.n == pytest.approx(weights)
        assert part.n == int(weights + 1e-9)

    @pytest.mark.parametrize(
        "guarantee",
        [Expectation(), Expectation(robust=1.25), HighProbability(delta=0.3), PostHoc()],
        ids=["plain", "robust", "high_probability", "post_hoc"],
    )
    def test_the_least_alpha_where_scenes_count_less(self, calibration, guarantee):
        """It is that of the curve, and activating what is active already changes nothing."""
        made = mixed(calibration, scenes=60)[0]
        kept = [pair for k, pair in enumerate(made.measured_pairs()) if k % 5]  # others failed
        fewer = made.with_pairs(kept, created_by="test", guarantee=guarantee)
        for name in (None, "lossless", "jpeg-85"):
            part = fewer.everything.of_class(name)
            assert part.min_alpha == pytest.approx(part.curve.min_alpha, rel=1e-6)
        least = ServingChanges.between(fewer, fewer).min_alpha
        assert least.before == least.after

    def test_one_pair_of_each_scene_is_drawn_by_weight(self, calibration):
        """So that an upload is compared with such as are as frequent among uploads."""
        drawn, expected, counts = Counter(), Counter(), 400
        for seed in range(counts):
            part = mixed(calibration, seed, scenes=3)[0].everything.read_as("lossless")
            for pair in part.one_of_each:
                drawn[pair.variant] += 1
            for pair, weight in zip(part.infos, part.weights, strict=True):
                expected[pair.variant] += float(weight)
        for way, mean in expected.items():
            assert abs(drawn[way] - mean) < 4 * np.sqrt(mean)
        assert expected["jpeg-85"] > 20


@pytest.mark.parametrize(("hard", "is_above"), [(0.9, True), (0.25, False)])
def test_a_way_that_its_class_hides(calibration, hard, is_above):
    """One of two ways of a class loses more than α: the calibration itself says so."""
    ways = Mixture(mixture=[{}, {"way": "denoised", "variation": 0.1}], shares={"lossless": 9})
    random, updates, losses = np.random.default_rng(1), [], []
    for scene in range(30):
        for way, loss in (("lossless", 0.25), ("denoised", hard)):
            digest = random.bytes(32).hex()
            update = {"name": f"{scene}~{way}", "variant": way, "x_sha256": digest}
            updates.append({**update, "input_class": "lossless"})
            losses.append([loss] * (1 + scene % 3))
    fields = {"degradation": ways, "default_alpha": 0.5}
    made = made_of(calibration, updates, losses, fields=fields, input_rule=UPLOAD)
    worst, other = calibrated_ways(made.everything)
    if is_above:
        assert (worst.name, worst.n, worst.is_above) == ("denoised", 30, True)
        assert (worst.loss, worst.error) == (
            pytest.approx(0.9, rel=0.01),
            pytest.approx(0, abs=0.01),
        )
    assert not other.is_above
    assert worst.is_above is is_above
    assert calibrated_ways(made_of(calibration, [{}] * 9).everything) == []  # X came with Y


class TestHighest:
    def test_a_level_ends_where_nearly_all_is_trusted(self, calibration):
        """From `max_alpha` on the mask stays that of 95 % of the calibrating area."""
        made = made_of(calibration, [{}] * 9, [0.25] * 9)
        assert made.everything.highest == pytest.approx(0.95, abs=0.005)
        made = made.everything
        assert made.max_alpha == made.curve.risk(0.6) == pytest.approx((9 * 0.25 + made.bound) / 10)
        ends = [made.curve.threshold(made.max_alpha + more) for more in (0, 0.1, 5)]
        assert ends == [np.nextafter(np.float32(made.highest), np.float32(1))] * 3
        below = made.curve.threshold(made.max_alpha - 1e-9)
        assert below == 0.5
        shares = [made.mean_trusted_fraction(t) for t in (ends[0], below)]
        assert shares == pytest.approx([0.95, 0.5], abs=0.015)

    def test_scenes_decide_by_weight(self, calibration):
        """Many pictures of one scene, all of high σ, raise the end no more than one picture."""
        pairs = [{"scene": "many" if k < 30 else str(k)} for k in range(60)]
        made = made_of(calibration, pairs)
        quantiles = made.arrays.sigma_quantiles.copy()
        quantiles[[pair.scene == "many" for pair in made.manifest.pairs]] += 1
        assert with_arrays(made, sigma_quantiles=quantiles).everything.highest < 1


def test_parts_are_bounded_and_shared_by_threads(calibration, monkeypatch):
    """A part is made once, whoever asks; those of other groups replace it."""
    monkeypatch.setattr(record, "MAX_SUBSETS", 2)
    many = made_of(calibration, [{"group": str(k)} for k in range(4)])
    begin = Barrier(8)

    def asked(_):
        begin.wait()
        return many.subset("0")

    with ThreadPoolExecutor(8) as threads:
        [first] = set(threads.map(asked, range(8)))
    assert len({many.subset(str(k)) for k in range(4)}) == 4
    assert len(many._subsets) == 2
    assert many.subset("0").infos == first.infos
