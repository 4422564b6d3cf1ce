"""Settings of a worker: what to load, and its limits and timeouts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import typer
from pydantic import BaseModel, ConfigDict, PositiveInt


@dataclass(frozen=True)
class EngineSpec:
    """What to load, and how; each engine reads the fields that concern it.

    `model` is a key of `ENGINES`.
    """

    model: Annotated[
        str,
        typer.Option(
            help="Kind of model: diffusers, sinsr, spandrel or onnx.", envvar="WORKER_MODEL"
        ),
    ] = ""
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weight file, or a folder of them; onnx: default the shipped one.",
            envvar="WEIGHTS_DIR",
        ),
    ] = None
    autoencoder: Annotated[
        Path | None, typer.Option(help="sinsr: weight file of the autoencoder.")
    ] = None
    config: Annotated[
        str,
        typer.Option(
            help="JSON, or a file of it: settings of diffusers, hyper-parameters of sinsr.",
            envvar="WORKER_CONFIG",
        ),
    ] = "official"
    name: Annotated[str | None, typer.Option(help="What to call the model in URLs.")] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu"
    dtype: Annotated[
        str, typer.Option(help="Precision: float32, float16 or bfloat16.", envvar="WORKER_DTYPE")
    ] = "float32"
    compiled: Annotated[
        bool, typer.Option("--compile", help="sinsr: compile the networks (slow first request).")
    ] = False
    batch: Annotated[
        int | None,
        typer.Option(help="Most samples at a time; default: as free memory allows.", min=1),
    ] = None
    tile: Annotated[
        int | None, typer.Option(help="Side of the tiles of large images; not for sinsr.")
    ] = None
    halo: Annotated[int | None, typer.Option(help="onnx: overlap of the tiles.")] = None
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; default: one per core.", min=1)
    ] = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Self:
        return cls(**{**settings, "weights": Path(settings["weights"])})  # type: ignore[arg-type]


class WorkerSettings(BaseModel):
    """All limits of the service; the defaults suit one GPU.

    max_answer_bytes: of all samples of one request, M * k*h * k*w * 3.
    max_json_values: of a JSON answer, which takes twenty times their memory.
    queue_size: more requests are refused with 503.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_samples: Annotated[PositiveInt, typer.Option(help="Most samples in one request.")] = 64
    max_pixels: Annotated[PositiveInt, typer.Option(help="Most pixels of an input.")] = 2048 * 2048
    max_answer_bytes: PositiveInt = 2 * 2**30
    max_json_values: PositiveInt = 8 * 2**20
    queue_size: Annotated[PositiveInt, typer.Option(help="Requests that may wait.")] = 16
    drain_s: Annotated[
        PositiveInt, typer.Option("--drain", help="Seconds to finish running requests.")
    ] = 60

    @property
    def max_body_bytes(self) -> int:
        """Most bytes of a request: the largest image and seeds, written as JSON."""
        # With its comma a pixel's number is at most 5 bytes, a seed at most 22.
        return 5 * 3 * self.max_pixels + 22 * self.max_samples + 64 * 2**10
