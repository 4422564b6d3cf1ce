"""What is promised of an answer, in words and numbers."""

from __future__ import annotations

from trustscale_server.calibration.guarantee_kinds import PostHoc, Probability
from trustscale_server.calibration.manifest import REMOVED
from trustscale_server.conformal.fidelity import clips
from trustscale_server.conformal.risk_curve import lab_psnr_lower_bound_db
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.kinds.degradation import Mixture
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.caption import about
from trustscale_server.serving.document import Guarantee
from trustscale_server.serving.plain import plain
from trustscale_server.serving.theorem import theorem


def guarantee(applicable: ApplicableCalibration, alpha: float) -> Guarantee:
    """Return the promise for a mask of this α on an output of this size."""
    subset = applicable.subset
    settings = subset.pipeline.fidelity
    counts_errors = not isinstance(subset.guarantee, Probability)
    # A bound on spots does not bound the root mean square error of all of them.
    bounds_psnr = settings.spec.bounds_psnr and settings.unit == "picture" and not clips(settings)
    typical = subset.typical_error(alpha)
    promised = applicable.why_not is None and subset.shortfall(alpha) is None
    words = plain(applicable, alpha, typical)
    condition = _condition(applicable)
    return Guarantee(
        **subset.guarantee.summary().model_dump(),
        metric=settings.metric,
        error=settings.spec.summary,
        error_unit=settings.spec.error_unit,
        about=about(settings.spec.error_unit),
        alpha=alpha,
        bound=subset.bound,
        loss_clipped_at=subset.bound if counts_errors and clips(settings) else None,
        n=subset.n,
        pairs=subset.pairs,
        calibrated_on=subset.made_of,
        plain=f"{words} {condition}" if promised and condition else words,
        theorem=theorem(applicable, alpha, typical),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha) if counts_errors and bounds_psnr else None
        ),
        promised=promised,
        unit=settings.unit,
        spot=settings.spot,
        max_alpha=subset.max_alpha,
        condition=condition,
        void_if=_void_if(applicable),
    )


def _condition(applicable: ApplicableCalibration) -> str | None:
    """What the owner of a supplied upscaler states; None: this program made the calls."""
    by = applicable.subset.manifest.provenance.enlarged_by
    return None if by is None else f"This holds if it was enlarged by {by}."


def _origins(applicable: ApplicableCalibration) -> str:
    """How the inputs of the pairs were made, in brackets; empty: it is not known."""
    subset, name = applicable.subset, applicable.covered_class
    degradation = subset.manifest.degradation
    origins = []
    # The class names the part of a mixture; otherwise it is only about the file.
    if degradation is not None and not (name is not None and isinstance(degradation, Mixture)):
        origins.append(f"made by {degradation.describe(subset.pipeline.scale)}")
    if name is not None:
        origins.append(f"uploads {class_in_words(name)}")
    return f" ({'; '.join(origins)})" if origins else ""


def _void_if(applicable: ApplicableCalibration) -> list[str]:
    """What would void the promise."""
    subset = applicable.subset
    result = "upscaled" if subset.pipeline.scale > 1 else "restored"
    unit = subset.pipeline.fidelity.unit
    average = "many images" if unit == "words" else "spots of many images"
    reasons = [str(item.get("reason", "")) for item in subset.manifest.skipped]
    removed = sum(reason.startswith(REMOVED) for reason in reasons)
    conditions = {
        f"an image from elsewhere, of another subject, camera or processing than the pairs"
        f"{_origins(applicable)}; "
        "its subject is not checked": True,
        "choosing alpha after looking at this image or its mask": (
            not isinstance(subset.guarantee, PostHoc)
        ),
        "keeping one of several results of an image after looking at them, be they of another "
        "seed, group, upscaler or calibration": True,
        "enlarging the mask (filling holes, dilating, interpolating); shrinking it is allowed": (
            True
        ),
        f"editing the {result} image, or using another upscaler's image with this mask": True,
        f"reading it as a promise about this one image: it is about the average over {average}": (
            True
        ),
        "pairs that show one scene (crops, frames, slices) and are not named as one, or scenes "
        "that brought more pairs because somebody found them interesting": True,
        "scenes that are no independent draws from one distribution": (
            subset.guarantee.summary().delta is not None
        ),
        f"pairs that were taken out because of their errors ({removed} were taken out by hand)": (
            removed > 0
        ),
        "choosing a spot after looking, or an upscaler that treats a part of a larger image "
        "otherwise than an image of its own": unit == "spot",
        "choosing the group after looking at the answer: it must follow from the input, in the way "
        "in which the pairs were grouped": applicable.group is not None,
        "saving the upload anew after looking at the answer, so that it falls into another class": (
            applicable.input_class is not None
        ),
    }
    void_if = [words for words, applies in conditions.items() if applies]
    return [*void_if, *subset.pipeline.fidelity.spec.void_if]
