"""Commands of the worker, which are also part of `trustscale`."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from trustscale_server.bootstrap.sources import CONFIG_VARIABLE
from trustscale_server.platform.command_options import with_options
from trustscale_server.platform.errors import ConfigError
from trustscale_worker.errors import WeightsError
from trustscale_worker.files import file_sha256, known_models, read_settings
from trustscale_worker.settings import EngineSpec, WorkerSettings

serving = typer.Typer()
"""`worker` and `worker export`."""

models = typer.Typer(help="Known models and weight files.", no_args_is_help=True)


_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@serving.callback(invoke_without_command=True)
@with_options(
    spec=EngineSpec,
    limits=(WorkerSettings, ("max_samples", "max_pixels", "queue_size", "drain_s")),
)
def worker(
    context: typer.Context,
    spec: EngineSpec,
    limits: dict[str, int],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8001,
) -> None:
    """Serve one model over the Open Inference Protocol until SIGTERM or Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    with _installed():
        settings = read_settings(WorkerSettings, limits)

        import uvicorn  # noqa: PLC0415

        from trustscale_server.platform.telemetry.traces import exporting  # noqa: PLC0415
        from trustscale_worker.models.engine import load_engine  # noqa: PLC0415
        from trustscale_worker.service import create_worker_app  # noqa: PLC0415

        loaded = load_engine(spec)
        text = f"x{loaded.scale} on {spec.device} in {spec.dtype}, {loaded.fingerprint}"
        typer.echo(f"{loaded.name}: {text}")
        server = uvicorn.Server(
            uvicorn.Config(
                create_worker_app(loaded, settings),
                host=host,
                port=port,
                # Longer than gateways (5 s) and proxies (nginx 60 s) keep idle connections, which
                # else might send a request into a closing one.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=settings.drain_s,
                access_log=False,
            )
        )
        with exporting("trustscale-worker"):
            # uvicorn raises the stop signal again at the end; a requested stop is a success.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, server.handle_exit)
            server.run()


@serving.command()
@with_options(engine=(EngineSpec, ("model", "config", "name", "dtype")))
def export(
    weights: Annotated[str, typer.Option(help="Where the weights will lie.")],
    engine: dict[str, Any],
    triton: Annotated[Path | None, typer.Option(help="Model repository to write.")] = None,
    ray: Annotated[Path | None, typer.Option(help="Folder for a Ray Serve configuration.")] = None,
    device: Annotated[str, typer.Option(help="Device of Ray: cuda or cpu.")] = "cuda",
) -> None:
    """Write what Triton or Ray Serve needs to serve a model by our engine."""
    with _installed():
        from trustscale_worker import export as exporting  # noqa: PLC0415
        from trustscale_worker.models.engine import ENGINES  # noqa: PLC0415

        model, name = engine.pop("model"), engine.pop("name")
        if model not in ENGINES:
            raise ConfigError(f"give --model or WORKER_MODEL: one of {', '.join(ENGINES)}")
        if triton is None and ray is None:
            raise ConfigError("give --triton DIR or --ray DIR")
        settings, name = {"model": model, "weights": weights, **engine}, name or model
        written = [] if triton is None else exporting.triton(triton, name, settings)
        if ray is not None:
            written += exporting.ray(ray, name, settings, device)
        for path in written:
            typer.echo(path)


@models.command("list")
def list_models(as_json: _AsJson = False) -> None:
    """Name the models that are known to run, with licence, source and files."""
    models = known_models()
    if as_json:
        rows = {
            name: row.model_dump(by_alias=True, exclude_none=True) for name, row in models.items()
        }
        typer.echo(json.dumps(rows))
        return
    for name, row in models.items():
        typer.echo(f"{name}: x{row.scale}, samples by {row.samples}, --model {row.engine}")
        typer.echo(f"  licence   {row.licence}; commercial use: {row.commerce}")
        typer.echo(f"  source    {row.address}")
        if row.pipeline is not None:
            typer.echo(f"  files     the whole folder, with model_index.json ({row.pipeline})")
        for file in row.files:
            words = [file.name, f"or {file.either}" if file.either else None]
            words += [f"{file.size} bytes" if file.size else None, file.sha256]
            typer.echo("  file      " + "  ".join(word for word in words if word))
        if row.needs is not None:
            typer.echo(f"  needs     pip install {row.needs}")


@models.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="Weight file to read (.pth), or a diffusers folder.")
    ],
    target: Annotated[
        Path | None, typer.Argument(help="File to write; default: the same with .safetensors.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Write a checkpoint's tensors as safetensors, which cannot hold code."""
    with _installed():
        from trustscale_worker import weights  # noqa: PLC0415

        if source.is_dir() and target is not None:
            raise ConfigError("a folder is converted in place: name no target")
        pairs = _pickled_parts(source) if source.is_dir() else {source: target}
        if not pairs:
            raise WeightsError(f"{source} holds no pickled weights of a pipeline")
        for path, named in pairs.items():
            written = named or path.with_suffix(".safetensors")
            if written.exists() and not force:
                raise ConfigError(f"{written} exists; give --force to replace it")
            state = weights.read_state(path)
            weights.write_safetensors(state, written)
            document = {
                "source": str(path),
                "target": str(written),
                "tensors": len(state),
                "sha256": file_sha256(written),
            }
            _print(document, as_json=as_json)


def _pickled_parts(folder: Path) -> dict[Path, Path | None]:
    names = {"diffusion_pytorch_model": "diffusion_pytorch_model", "pytorch_model": "model"}
    return {
        path: path.with_name(f"{names[path.stem]}.safetensors")
        for path in sorted(folder.glob("*/*.bin"))
        if path.stem in names
    }


@dataclass
class Conversion:
    """How a model file becomes an ONNX file of an upscaler."""

    name: Annotated[str | None, typer.Option(help="Name of the upscaler; default: the file's.")] = (
        None
    )
    out: Annotated[
        Path | None, typer.Option(help="ONNX file to write; default: the same with .onnx.")
    ] = None
    picture: Annotated[
        Path | None, typer.Option(help="Picture to compare on; default: a pattern.")
    ] = None
    halo: Annotated[
        int | None, typer.Option(help="Overlap of tiles, input pixels; default: measured.", min=0)
    ] = None
    force: Annotated[bool, typer.Option(help="Replace an existing ONNX file.")] = False


@models.command("import")
@with_options(conversion=Conversion)
def import_(
    source: Annotated[
        Path,
        typer.Argument(help="A .pth, .safetensors, .onnx or .param file (its .bin beside it)."),
    ],
    conversion: Conversion,
    config: Annotated[
        Path, typer.Option(help="File of settings to add to.", envvar=CONFIG_VARIABLE)
    ] = Path("trustscale.toml"),
    as_json: _AsJson = False,
) -> None:
    """Make an embedded upscaler of a model file, checked against the original."""
    with _installed("[import]"):
        from trustscale_worker.importing.importer import import_model  # noqa: PLC0415

        imported = import_model(
            source,
            config,
            name=conversion.name or source.stem,
            out=conversion.out or source.with_suffix(".onnx"),
            picture=conversion.picture,
            halo=conversion.halo,
            force=conversion.force,
        )
        _print(imported.model_dump(mode="json"), as_json=as_json)


@models.command()
@with_options(
    engine=(
        EngineSpec,
        ("model", "weights", "autoencoder", "config", "dtype", "tile", "halo"),
    )
)
def verify(engine: dict[str, Any], as_json: _AsJson = False) -> None:
    """Load weight files as a worker would, and print their hashes and the fingerprint."""
    with _installed():
        from trustscale_worker.models.engine import load_engine  # noqa: PLC0415

        spec = EngineSpec(**engine)
        files = [path for path in (spec.weights, spec.autoencoder) if path and path.is_file()]
        hashes = {str(path): file_sha256(path) for path in files}
        loaded = load_engine(spec)
        document = {
            "name": loaded.name,
            "scale": loaded.scale,
            "dtype": spec.dtype,
            "fingerprint": loaded.fingerprint,
            "sha256": hashes,
        }
        _print(document, as_json=as_json)


@contextmanager
def _installed(extra: str = "") -> Iterator[None]:
    """Raise ConfigError for a missing module; the distribution's `extra`, in brackets, has it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed; this needs trustscale-worker{extra}"
        ) from error


def _print(document: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document))
        return
    for key, value in document.items():
        if isinstance(value, dict):
            for name, inner in value.items():
                typer.echo(f"{key:12} {inner}  {name}")
        else:
            typer.echo(f"{key:12} {value}")
