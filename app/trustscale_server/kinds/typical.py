"""What uploads commonly went through: the default of how X is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from trustscale_server.kinds.degradation import Mixture

_SHARP: Final[Sequence[Mapping[str, Any]]] = (
    {"weight": 8},
    {"reduction": "area", "weight": 4},
    {"reduction": "lanczos", "weight": 2},
    {"noise": (0.5, 4.0), "weight": 3},
    {"subject": "grey", "weight": 1},
)
"""How pictures become sharp uploads."""

_SOFT: Final[Sequence[Mapping[str, Any]]] = (
    {"enlarged": (1.2, 2.1), "weight": 4},
    {"enlarged": (1.2, 2.1), "reduction": "area", "weight": 2},
    {"enlarged": (1.2, 2.1), "kernel": "lanczos", "weight": 2},
    {"enlarged": (1.2, 2.1), "kernel": "bilinear", "weight": 2},
    {"blur": (0.5, 1.3), "weight": 4},
)
"""How they become soft ones: screenshots, thumbnails, digital zoom, a lens out of focus."""

_KERNELS: Final[Sequence[Mapping[str, Any]]] = ({}, {"kernel": "bilinear"}, {"kernel": "lanczos"})
_FAR: Final = [{"enlarged": (2.1, 4.0), **kernel} for kernel in _KERNELS]
_PART: Final = [{"enlarged": (1.3, 4.0), "patch": True, **kernel} for kernel in _KERNELS]
_PAGE: Final[Mapping[str, Any]] = {"subject": "page", "reduction": "area"}
_SMOOTHED: Final = {"noise": (0.5, 6.0), "median": True, "sharpened": (0.0, 1.6)}
_DENOISED: Final = {"noise": (1.0, 6.0), "variation": (0.05, 0.12)}
_CLEAR: Final[Sequence[Mapping[str, Any]]] = ({}, {"jpeg": (80, 97)})
_PHONE: Final[Sequence[Mapping[str, Any]]] = (
    {"avif": (40, 95)},
    *([{"heic": (40, 95)}] if find_spec("pillow_heif") else []),
)

TYPICAL_UPLOADS = (
    Mixture.from_ways("lossless", _SHARP, share=24)
    + Mixture.from_ways(
        "noisy", [{"noise": (4.0, 8.0)}, {"noise": (4.0, 8.0), "reduction": "area"}], share=2
    )
    + Mixture.from_ways(
        "jpeg-85",
        _SHARP,
        [{"jpeg": (85, 100), "weight": 3}, {"before": (85, 98), "jpeg": (85, 98)}],
        share=20,
    )
    + Mixture.from_ways(
        "jpeg-65",
        _SHARP,
        [
            {"jpeg": (65, 84), "weight": 4},
            {"before": (65, 84), "jpeg": (80, 96)},
            {"before": (80, 98), "jpeg": (65, 84)},
        ],
        share=14,
    )
    + Mixture.from_ways(
        "jpeg-30",
        _SHARP,
        [
            {"jpeg": (30, 64), "weight": 4},
            {"before": (30, 64), "jpeg": (70, 96)},
            {"before": (60, 98), "jpeg": (30, 64)},
        ],
        share=5,
    )
    + Mixture.from_ways("webp", _SHARP, [{"webp": (20, 95)}], share=5)
    + Mixture.from_ways("heic", _SHARP, _PHONE, share=6)
    + Mixture.from_ways("palette", _SHARP, [{"palette": True}])
    + Mixture.from_ways(
        "decoded",
        _SHARP,
        [
            {"webp": (30, 95), "decoded": True, "weight": 3},
            *({**file, "decoded": True} for file in _PHONE),
            {"jpeg": (40, 95), "decoded": True, "weight": 2},
            {"before": (40, 92), "shrunk": (1.2, 2.2), "weight": 2},
        ],
        share=7,
    )
    + Mixture.from_ways("soft", _SOFT, share=6)
    + Mixture.from_ways(
        "soft-lossy", _SOFT, [{"jpeg": (30, 97), "weight": 4}, {"webp": (20, 95)}, *_PHONE], share=5
    )
    + Mixture.from_ways("enlarged", _FAR, _CLEAR, share=3)
    + Mixture.from_ways(
        "smoothed", [_SMOOTHED, {**_SMOOTHED, "reduction": "area"}], _CLEAR, share=2
    )
    + Mixture.from_ways("denoised", [_DENOISED, {**_DENOISED, "reduction": "area"}], _CLEAR)
    + Mixture.from_ways("motion", [{"motion": (1.5, 5.0)}], _CLEAR, share=2)
    + Mixture.from_ways("collage", _PART, _CLEAR, share=2)
    + Mixture.from_ways(
        "page", [_PAGE, {**_PAGE, "patch": True, "enlarged": (1.2, 3.0)}], _CLEAR, share=3
    )
    + Mixture.from_ways("drawn", [{"subject": "drawing", "reduction": "area"}], _CLEAR, share=3)
)
"""The default: what uploads commonly went through, and how often."""
