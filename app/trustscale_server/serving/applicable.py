"""The part of a calibration that applies to an upload, and whether it covers the upload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.manifest import Manifest
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.step_curve import StepCurve
from trustscale_server.images.compression import Compression
from trustscale_server.kinds.classes import class_in_words
from trustscale_server.kinds.degradation import Mixture
from trustscale_server.kinds.features import InputFeatures
from trustscale_server.serving.batch import BatchCurve
from trustscale_server.serving.document import InputClass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicableCalibration:
    """An upload, and the part of a calibration that applies to it.

    subset: the pairs whose curve is used.
    shape: (height, width) of the output.
    input_class: of the upload, if the calibration has classes.
    is_covered: whether there were pairs like the upload, as far as classes show.
    too_coarse: why its compression is stronger than any that was calibrated; None: it is not.
    batch: what the mask is cut by as well; None: nothing.
    """

    subset: Subset
    shape: tuple[int, int]
    group: str | None = None
    input_class: str | None = None
    is_covered: bool = True
    too_coarse: str | None = None
    batch: BatchCurve | None = None

    @property
    def curve(self) -> StepCurve:
        """The curve that the mask is cut by."""
        return self.subset.curve if self.batch is None else self.batch.curve

    @property
    def covered_class(self) -> str | None:
        """The class, if only its pairs are used; None: the pairs of all classes are."""
        return self.input_class if self.is_covered else None

    @classmethod
    def from_calibration(
        cls,
        calibration: Calibration,
        group: str | None = None,
        features: InputFeatures | None = None,
        *,
        shape: tuple[int, int],
        kind: str | None = None,
        robust: float | None = None,
    ) -> Self:
        """Find the part that applies to an upload of these features and an output of this shape.

        kind, robust: as `Calibration.subset`, which also says what is raised.
        """
        of_group = calibration.subset(group, kind, robust)
        name = None if features is None else of_group.class_of(features)
        is_covered = features is None or of_group.covers(features)
        too_coarse = None
        if features is not None:
            too_coarse = _too_coarse(calibration.manifest, features.compression)
        return cls(
            subset=of_group.of_class(name),
            shape=shape,
            group=group,
            input_class=name,
            is_covered=is_covered,
            too_coarse=too_coarse,
        )

    @property
    def document(self) -> InputClass | None:
        """The class as the answer names it."""
        rule = self.subset.pipeline.input_rule
        if self.input_class is None or rule is None:
            return None
        return InputClass(
            name=self.input_class,
            title=class_in_words(self.input_class),
            rule=rule,
            n=self.subset.n if self.is_covered else 0,
        )

    @property
    def why_not(self) -> str | None:
        """Explain why nothing is promised of this upload; None if something is."""
        if self.input_class is not None and not self.is_covered:
            return (
                "The calibration has too few uploads like this one "
                f"({class_in_words(self.input_class)}; class {self.input_class!r}); calibrate with "
                "inputs like it"
            )
        return self.too_coarse

    @property
    def scenes(self) -> str:
        """Say how many scenes there were, such as "40 calibration scenes (120 images) of the …"."""
        words = self._counted
        if self.group is not None:
            words += f" of the group {self.group!r}"
        if (name := self.covered_class) is not None:
            words += f" whose input was of the class {name!r} ({class_in_words(name)})"
        return words

    @property
    def _counted(self) -> str:
        n, pairs, scenes = self.subset.n, self.subset.pairs, len(self.subset.members)
        if pairs <= n:
            return f"{n} calibration images"
        how = "each scene counting once"
        if isinstance(self.subset.manifest.degradation, Mixture):
            how = "each counting by how frequent its way is among uploads, a scene once at most"
        weight = f" that weigh as {n}" if scenes > n else ""
        return f"{scenes} calibration scenes{weight} ({pairs} images, {how})"


_NAMES: Final = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "heic": "HEIC"}
_READ_WITHIN: Final = 3  # how far a quality that is read from a file may be from the true one


def _too_coarse(manifest: Manifest, compression: Compression) -> str | None:
    made_by, (codec, quality) = manifest.degradation, compression
    lowest = None if made_by is None else made_by.lowest_quality(codec)
    if lowest is None or quality is None or quality >= lowest - _READ_WITHIN:
        return None
    return (
        f"It went through a {_NAMES[codec]} file of a quality of about {quality}, and the lowest "
        f"that was calibrated is {lowest:g}; calibrate with inputs like it"
    )
