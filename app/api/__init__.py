"""HTTP: this package only translates between requests and the service."""

import sys

# FastAPI asks of every annotation whether it is a model of pydantic 1. None is, and the import
# that answers takes longer than that of all routes of an upscaling; it may fail.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
