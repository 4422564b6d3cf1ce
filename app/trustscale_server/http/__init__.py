"""HTTP: this package only translates between requests and the service."""

import sys

# FastAPI imports it to look for models of pydantic 1. There are none, and the import is slow.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]
