"""A processing script of QGIS: enlarge a raster layer, and keep only what can be trusted.

Put it into the folder of processing scripts (docs/integrations.md). The new layer has the old
extent, with pixels k times as fine. What is not trusted is masked: not drawn, and not counted in
statistics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from trustscale import Problem, Trustscale


class UpscaleWithTrust(QgsProcessingAlgorithm):  # type: ignore[misc]
    """The algorithm `script:upscalewithtrust`."""

    def createInstance(self) -> UpscaleWithTrust:  # noqa: N802 - a name of QGIS, as the next ones
        return UpscaleWithTrust()

    def name(self) -> str:
        return "upscalewithtrust"

    def displayName(self) -> str:  # noqa: N802
        return "Upscale with trust mask"

    def group(self) -> str:
        return "Trustscale"

    def groupId(self) -> str:  # noqa: N802
        return "trustscale"

    def shortHelpString(self) -> str:  # noqa: N802
        return "Enlarges a layer by a Trustscale service. What is not trusted at α is masked."

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        del configuration
        number = QgsProcessingParameterNumber
        alpha = number("ALPHA", "α, the tolerated error", number.Double, 0.1, minValue=0)
        key = QgsProcessingParameterString("KEY", "Key, if the service wants one", optional=True)
        for parameter in (
            QgsProcessingParameterRasterLayer("INPUT", "Layer, three bands or one of 8 bits"),
            QgsProcessingParameterString("URL", "Service", "http://127.0.0.1:8000"),
            key,
            alpha,
            QgsProcessingParameterRasterDestination("OUTPUT", "Enlarged layer"),
        ):
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputNumber("TRUSTED", "Share that is trusted"))
        self.addOutput(QgsProcessingOutputString("STATEMENT", "What is promised"))

    def processAlgorithm(  # noqa: N802
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        source = Path(self.parameterAsRasterLayer(parameters, "INPUT", context).source())
        if not source.is_file():
            raise QgsProcessingException(f"The layer is no file: save {source} as GeoTIFF before.")
        target = Path(self.parameterAsOutputLayer(parameters, "OUTPUT", context))
        if target.suffix.lower() not in {".tif", ".tiff"}:
            raise QgsProcessingException(f"{target.name} is to be a .tif: it holds place and mask.")
        key = self.parameterAsString(parameters, "KEY", context) or None
        try:
            with Trustscale(self.parameterAsString(parameters, "URL", context), key) as service:
                result = service.upscale(
                    source,
                    alpha=self.parameterAsDouble(parameters, "ALPHA", context),
                    format="tiff",
                    metadata="keep-gps",  # where the pixels lie on the ground, too
                )
        except (Problem, httpx.TransportError) as problem:
            raise QgsProcessingException(str(problem)) from problem
        target.write_bytes(result.files["image.tiff"])
        feedback.pushInfo(result.guarantee["plain"])
        for warning in result.warnings:
            feedback.pushWarning(warning)
        return {
            "OUTPUT": str(target),
            "TRUSTED": result.trusted_fraction,
            "STATEMENT": result.guarantee["theorem"],
        }
