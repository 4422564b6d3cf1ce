"""The promise about the mask, through the service itself."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from trustscale_server.calibrating.pairs import Pair, Truth
from trustscale_server.calibrating.reduction import reduce_pair
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.conformal import fidelity
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.images.limits import Limits
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.kinds.degrade import make_input
from trustscale_server.kinds.features import InputFeatures
from trustscale_server.platform.fair import AdmissionController
from trustscale_server.sampling.measure import measure
from trustscale_server.sampling.spec import MeasurementSpec
from trustscale_server.serving.batch import Batches
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.serving.service import UpscaleService
from trustscale_server.stores.opened import open_stores
from trustscale_server.upscalers.base import Source

PIPELINE = MeasurementSpec(fingerprint="fake:1", scale=2, samples=4)
UNUSED = InputFeatures(LOSSLESS, 2.0, 0.0, 3.0, 0.0)  # there are no classes


@pytest.mark.slow
class TestRisk:
    """E[worst error in the mask] ≤ α, over calibrations and images, through the service itself.

    8 calibrations of 120 pairs, 16 fresh images for each; the images of one calibration share it,
    so the standard error is that of the 8 means. B/(n+1) = 0.016 is the slack. That a mask could
    lose more than α at all is shown by masks grown by 16 pixels, which must break the promise.
    """

    CALIBRATIONS, PAIRS, FRESH = 8, 120, 16
    ALPHAS = (0.08, 0.11, 0.14)

    async def test_the_promise_holds(self, tmp_path):
        """The mean loss is at most α within 3 standard errors; grown masks lose more."""
        random = np.random.default_rng(7)
        folders = [tmp_path / f"{k}" for k in range(self.CALIBRATIONS)]
        means = np.array([await self.one_calibration(folder, random) for folder in folders])
        loss, trusted, grown = means.mean(0).T
        error = means[..., 0].std(0, ddof=1) / np.sqrt(self.CALIBRATIONS)
        assert (error < 0.01).all(), error
        assert (loss <= np.array(self.ALPHAS) + 3 * error).all(), (loss, error)
        assert (grown > np.array(self.ALPHAS) + 2 * error).all(), grown
        assert (np.diff(trusted) > 0).all(), trusted
        assert 0.05 < trusted[0] < trusted[-1] < 0.95, trusted

    async def one_calibration(self, folder, random):
        """Mean loss, trusted share and loss of a grown mask per α, under one calibration."""
        upscaler = FakeUpscaler(strength=3)
        seeds = [int(s) for s in random.integers(0, 2**31, self.PAIRS + self.FRESH)]
        pairs = [self.pair(s) for s in seeds]
        measured = [
            reduce_pair(p, await measure(upscaler, Source(p.x), PIPELINE, p.seed), PIPELINE)
            for p in pairs[: self.PAIRS]
        ]
        calibration = Calibration.from_pairs(measured, upscaler="fake", pipeline=PIPELINE)
        stores = open_stores("sqlite:///", folder, result_ttl_s=600, max_result_bytes=10**9)
        calibrations = Calibrations(stores.calibrations)
        await calibrations.add(calibration, activate=True)
        service = UpscaleService(
            ServiceContext(
                upscalers={"fake": upscaler},
                default="fake",
                calibrations=calibrations,
                results=stores.results,
                slots=AdmissionController(2, 9),
                limits=Limits(),
                request_timeout_s=60,
                batches=Batches(stores.results),
            )
        )
        fresh = pairs[self.PAIRS :]
        served = [[await self.serve(service, one, a) for a in self.ALPHAS] for one in fresh]
        await stores.close()
        return np.mean(served, axis=0)

    @staticmethod
    def pair(seed):
        """A fresh image of the same law, its contrast differing from image to image."""
        random = np.random.default_rng(seed)
        truth = photo(seed, 48, 48).astype(float)
        truth = np.clip(128 + (truth - 128) * random.uniform(0.2, 1.8), 0, 255).astype(np.uint8)
        low = make_input(truth, 2, Degradation(), 0).pixels
        return Pair(f"{seed}", low, Truth(truth, f"{seed}"), "", f"{seed}", seed, UNUSED)

    @staticmethod
    async def serve(service, pair, alpha):
        """The realised loss of one request, the share of its mask, and the loss of a grown mask."""
        request = UpscaleRequest(alpha=alpha, seed=pair.seed)
        prepared = await service.prepare(encoded(pair.x), request)
        answer = await service.run(prepared)
        files = (answer.files[name] for name in ("image.png", "mask.png"))
        image, mask = (np.asarray(Image.open(file)) for file in files)
        error = fidelity.error(pair.y, image, PIPELINE.fidelity)
        grown = ndimage.binary_dilation(mask, iterations=16)
        return (error.max(where=mask, initial=0), mask.mean(), error.max(where=grown, initial=0))
