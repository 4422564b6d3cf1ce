"""`trustscale evaluate`: how far to trust an upscaler, from images with known truth."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from trustscale_evaluation import report
from trustscale_evaluation.judging import PAPER_SAMPLES, Requested, judge_requested
from trustscale_evaluation.plan import make_plan
from trustscale_evaluation.plots import check_installed
from trustscale_evaluation.run import Options
from trustscale_evaluation.variants import PAPER, Variant, read_variants
from trustscale_server.calibration.guarantees import LEVELS
from trustscale_server.cli import options
from trustscale_server.cli.output import output
from trustscale_server.kinds.degradation import Degradation
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import BadRequest
from trustscale_server.sampling.sigma.moments import MAX_SAMPLES

ALPHAS = (0.02, *LEVELS.values(), 0.1)

_PAPER_ALPHAS = (0.05, 0.075, 0.1, 0.2, 0.3)

_REFERENCE, _PAPER_REFERENCE = LEVELS["balanced"], 0.1


@dataclass
class Judged:
    """What is judged."""

    upscaler: Annotated[
        list[str] | None,
        typer.Option(
            help="The upscaler, repeatable; default: auto, all that answer such uploads, each for "
            "its classes."
        ),
    ] = None
    settings: Annotated[
        str | None,
        typer.Option(
            help="What is compared: paper, or a TOML file with a table of settings per variant. "
            "Default: what this service would serve."
        ),
    ] = None
    calibration: Annotated[
        str | None,
        typer.Option(help="Judge an existing calibration instead: active, an id, or a file."),
    ] = None
    samples: Annotated[
        str | None,
        typer.Option(
            help="Numbers of generations whose price is compared, such as 1,2,4; with --settings "
            f"paper its M (default: {PAPER_SAMPLES})."
        ),
    ] = None
    baselines: Annotated[
        bool, typer.Option(help="Whether --settings paper also runs the methods of earlier work.")
    ] = True

    @property
    def is_paper(self) -> bool:
        """Whether it is the paper's setting."""
        return self.settings == PAPER

    def variants(self) -> list[Variant] | None:
        """Return the settings of a file; None where none is named. Raises BadRequest."""
        if not self.settings or self.is_paper:
            return None
        return read_variants(Path(self.settings))

    def counts(self) -> list[int]:
        """Return the numbers of generations, rising. Raises BadParameter."""
        if self.samples is None:
            return []
        try:
            counts = sorted({int(number) for number in self.samples.split(",")})
        except ValueError:
            counts = [0]
        if not 1 <= counts[0] <= counts[-1] <= MAX_SAMPLES:
            raise typer.BadParameter(
                f"--samples are numbers from 1 to {MAX_SAMPLES}, as in 1,2,4,8."
            )
        return counts


@dataclass
class Tables:
    """What the report shows, and where."""

    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation-report")
    alpha: Annotated[list[float] | None, typer.Option(help="Level of the tables, repeatable.")] = (
        None
    )
    delta: Annotated[
        float, typer.Option(help="Failure probability of the high-probability promise.")
    ] = 0.1
    as_json: options.Json = False

    def alphas(self, usual: Sequence[float]) -> list[float]:
        """Return the levels in ascending order; without any the usual ones. Raises BadParameter."""
        levels = sorted(set(self.alpha or usual))
        if not all(0 < level < float("inf") for level in levels):
            raise typer.BadParameter("--alpha must be a positive number.")
        return levels


@dataclass
class Division(options.Steps):
    """How the images are divided, and uploads made of them."""

    split: Annotated[float, typer.Option(help="Share of the images that calibrate.")] = 0.7
    group_column: Annotated[
        str | None, typer.Option(help="Column of manifest.csv that names the photograph.")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of split, samples and degradation.")] = 0
    skip_bad_pairs: Annotated[
        bool, typer.Option(help="Leave out images that cannot be used, and say so.")
    ] = False
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the samples; default: evaluation/ in the data folder."),
    ] = None

    @property
    def degradation(self) -> Degradation | None:
        """The degradation that the options name, or None. Raises BadRequest."""
        try:
            steps = Degradation(**self.named)
        except ValidationError as error:
            raise BadRequest(f"The degradation cannot be used: {mistakes(error)}") from None
        return None if steps == Degradation() else steps


@with_options(judged=Judged, tables=Tables, division=Division)
def evaluate(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="x/ and y/, or only high-resolution images, or sub-folders of them, one per "
            "photograph; calibration/ and test/ inside bring their own division."
        ),
    ],
    judged: Judged,
    tables: Tables,
    division: Division,
) -> None:
    """Calibrate on some of the images, test on the others, and write a report.

    Samples are kept: after an interruption the same command pays for none of them again, nor do
    other settings of σ or D. That saves money and the model's time; what is measured on the
    samples is measured again.
    """
    check_installed()
    if not 0 < division.split < 1 or not 0 < tables.delta < 1:
        raise typer.BadParameter("--split and --delta must lie between 0 and 1.")
    if judged.settings and judged.calibration:
        raise typer.BadParameter("--calibration has its own settings; leave --settings out.")
    alphas = tables.alphas(_PAPER_ALPHAS if judged.is_paper else ALPHAS)
    reference = _PAPER_REFERENCE if judged.is_paper else _REFERENCE
    plan = make_plan(
        folders,
        share=None if judged.calibration else division.split,
        seed=division.seed,
        column=division.group_column,
    )
    requested = Requested(
        upscalers=judged.upscaler or [],
        variants=judged.variants(),
        is_paper=judged.is_paper,
        calibration=judged.calibration,
        samples=judged.counts(),
    )
    chosen = Options(
        alphas=alphas,
        reference_alpha=min(alphas, key=lambda level: abs(level - reference)),
        delta=tables.delta,
        seed=division.seed,
        degradation=division.degradation,
        skip_bad=division.skip_bad_pairs,
        with_earlier=judged.baselines and judged.is_paper,
    )
    findings = asyncio.run(judge_requested(requested, plan, division.cache, chosen))
    document = {**report.write(findings, tables.out), "report": str(tables.out / report.REPORT)}
    for item in findings.skipped:
        typer.echo(f"skipped {item['name']}: {item['reason']}", err=True)
    output(document, lambda _: _text(findings, tables.out), as_json=tables.as_json)


def _text(findings: report.Findings, out: Path) -> str:
    lines = [findings.verdict.headline, *findings.verdict.findings]
    generated = sum(result.generated for result in findings.results)
    alpha = findings.options.reference_alpha
    advice = [
        (result.name, report.samples_advice(result.tables["price"], alpha))
        for result in findings.results
    ]
    lines += [f"{name}: {sentence}" for name, sentence in advice if sentence]
    lines.append(f"{generated} uploads were generated for; the report is {out / report.REPORT}.")
    return "\n".join(lines)
