"""SinSR, one-step diffusion super-resolution ×4 (Wang et al. 2024), written for inference.

An independent implementation that loads the published weight files; the files themselves are
the operator's to bring (their licence is non-commercial).
"""

from workers.models.engine import SampleRequest
from workers.models.sinsr.config import SinSRConfig, parse_config
from workers.models.sinsr.model import SinSR

__all__ = ["SampleRequest", "SinSR", "SinSRConfig", "parse_config"]
