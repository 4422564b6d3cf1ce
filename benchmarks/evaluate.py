"""What an evaluation costs besides the generation. `python -m benchmarks.evaluate DIR [COUNT]`.

DIR holds truths of 512×512, COUNT (100) of which are used, 70 % to calibrate. First their samples
are generated and thrown away; then everything is done from the start in the paper's setting:
generation, cache, σ and D, the annotator, earlier methods, tables, figures and report. A last run
finds all samples in the cache. Processor time is the steadier figure on a machine with other work.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from app.calibration.intake import find_in
from app.calibration.layout import PairFiles
from app.calibration.pairs import load_pair
from app.evaluation import report
from app.evaluation.conduct import conduct, typical_side
from app.evaluation.measure import SampleCache
from app.evaluation.plan import Plan, split
from app.evaluation.plots import check_installed
from app.evaluation.run import Options
from app.evaluation.variants import paper
from app.sampling.draw import draw
from app.system import usable_cores
from app.upscalers.base import Source
from app.upscalers.embedded import EmbeddedUpscaler
from app.upscalers.seeds import sample_seeds
from benchmarks.arguments import folder_and_count
from benchmarks.table import print_table
from benchmarks.timing import timed

ALPHAS = (0.05, 0.075, 0.1, 0.2, 0.3)
SAMPLES = 8


def made() -> EmbeddedUpscaler:
    """The upscaler as the command opens it: a sample per core, which is the fastest way."""
    return EmbeddedUpscaler("span-x4", concurrency=usable_cores())


async def generate(plan: Plan) -> None:
    """The samples of every image, and nothing else."""
    upscaler = made()
    pipeline = paper([upscaler], SAMPLES, 0, 0.1)[0].pipeline(upscaler)
    places = asyncio.Semaphore(usable_cores())

    async def one(item: PairFiles) -> None:
        async with places:
            data = item.y.read_bytes()
            pair = load_pair(item.name, data, None, pipeline, degradation=None, seed=0)
            seeds = sample_seeds(pair.seed, pipeline.samples)
            await draw(upscaler, Source(pair.x), seeds, on_sample=lambda *_: None)

    await asyncio.gather(*map(one, (*plan.calibration, *plan.test)))
    await upscaler.close()


async def evaluate(plan: Plan, place: Path) -> None:
    """A whole evaluation with its report."""
    upscaler, options = made(), Options(ALPHAS, 0.1, with_earlier=True)
    variants = paper([upscaler], SAMPLES, typical_side(plan.calibration), options.delta)
    cache = SampleCache(place / "samples")
    findings = await conduct([upscaler], plan, variants, cache, options)
    report.write(findings, place / "report")
    await upscaler.close()


def main(folder: Path, count: int) -> None:
    """Measure and print."""
    check_installed()  # imports what draws, as the command does
    items = find_in(folder)[:count]
    plan = Plan(*split(items, 0.7, 0), "image")
    with tempfile.TemporaryDirectory() as place:
        alone = timed(lambda: asyncio.run(generate(plan)))
        whole = timed(lambda: asyncio.run(evaluate(plan, Path(place))))
        again = timed(lambda: asyncio.run(evaluate(plan, Path(place))))
        kept = sum(file.stat().st_size for file in (Path(place) / "samples").iterdir()) / 1e6
    rows = [
        (
            what,
            f"{time.wall:.1f} s",
            f"{time.wall / alone.wall:.2f}×",
            f"{time.cpu:.1f} s",
            f"{time.cpu / alone.cpu:.2f}×",
            wanted,
        )
        for what, time, wanted in (
            (f"generation alone, {len(items)} images", alone, ""),
            ("everything", whole, "≤ 1.20×"),
            ("again, samples cached", again, ""),
        )
    ]
    print_table(("what", "clock", "ratio", "processors", "ratio", "wanted"), rows)
    print(f"\n{kept:.0f} MB of samples, {kept / len(items):.2f} MB per image")


if __name__ == "__main__":
    main(*folder_and_count(__doc__, 100))
