"""Commands of the worker, which are also part of `trustscale`."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from trustscale_server.config_sources import CONFIG_VARIABLE, with_options
from trustscale_server.errors import TrustscaleError
from trustscale_worker.errors import ConfigError, WeightsError, WorkerError
from trustscale_worker.files import file_sha256, identify, known_models, read_settings
from trustscale_worker.settings import EngineSpec, WorkerSettings

# Exit codes: a wrong argument, or an unusable file.
USAGE, FAILURE = 2, 1

# Longer than gateways (5 s) and proxies (nginx 60 s) keep idle connections, which else might send a
# request into a closing one.
KEEP_ALIVE_S = 75

serving = typer.Typer()
"""`worker` and `worker export`."""

models = typer.Typer(help="Known models and weight files.", no_args_is_help=True)


def main() -> None:
    """Run the commands alone (`python -m workers`)."""
    app = typer.Typer(
        help="Serve models to a trustscale gateway.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.add_typer(serving, name="worker")
    app.add_typer(models, name="models")
    app(prog_name="python -m workers")


ENGINE = tuple(field.name for field in fields(EngineSpec))
LIMITS = ("max_samples", "max_pixels", "queue_size", "drain_s")
FILES = ("model", "weights", "autoencoder", "config", "dtype", "tile", "halo")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@serving.callback(invoke_without_command=True)
@with_options(engine=(EngineSpec, ENGINE), limits=(WorkerSettings, LIMITS))
def worker(
    context: typer.Context,
    engine: dict[str, Any],
    limits: dict[str, int],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8001,
) -> None:
    """Serve one model over the Open Inference Protocol until SIGTERM or Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    with _one_line_errors():
        settings = read_settings(WorkerSettings, limits)

        import uvicorn  # noqa: PLC0415

        from trustscale_server.telemetry.signals import exporting  # noqa: PLC0415
        from trustscale_worker.models.engine import load_engine  # noqa: PLC0415
        from trustscale_worker.service import create_app  # noqa: PLC0415

        spec = EngineSpec(**engine)
        loaded = load_engine(spec)
        text = f"x{loaded.scale} on {spec.device} in {spec.dtype}, {loaded.fingerprint}"
        typer.echo(f"{loaded.name}: {text}")
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(loaded, settings),
                host=host,
                port=port,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.drain_s,
                access_log=False,
            )
        )
        collector = os.environ.get("TRUSTSCALE_OTLP_ENDPOINT") or os.environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        with exporting(collector or None, "trustscale-worker"):
            # uvicorn raises the stop signal again at the end; a requested stop is a success.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, server.handle_exit)
            server.run()


@serving.command()
@with_options(engine=(EngineSpec, ("model", "config", "name", "dtype")))
def export(
    weights: Annotated[
        str, typer.Option(help="Where the weights will lie; of KServe: its storage URI.")
    ],
    engine: dict[str, Any],
    triton: Annotated[Path | None, typer.Option(help="Model repository to write.")] = None,
    kserve: Annotated[Path | None, typer.Option(help="Folder for an InferenceService.")] = None,
    ray: Annotated[Path | None, typer.Option(help="Folder for a Ray Serve configuration.")] = None,
    device: Annotated[str, typer.Option(help="Of KServe and Ray: cuda or cpu.")] = "cuda",
) -> None:
    """Write what Triton, KServe or Ray Serve needs to serve a model by our engine."""
    with _one_line_errors():
        from trustscale_worker import export as exporting  # noqa: PLC0415
        from trustscale_worker.models.engine import ENGINES  # noqa: PLC0415

        model, name = engine.pop("model"), engine.pop("name")
        if model not in ENGINES:
            raise ConfigError(f"give --model or WORKER_MODEL: one of {', '.join(ENGINES)}")
        if triton is None and kserve is None and ray is None:
            raise ConfigError("give --triton DIR, --kserve DIR or --ray DIR")
        settings, name = {"model": model, "weights": weights, **engine}, name or model
        written = [] if triton is None else exporting.triton(triton, name, settings)
        if kserve is not None:
            written += exporting.kserve(kserve, name, settings, device)
        if ray is not None:
            written += exporting.ray(ray, name, settings, device)
        for path in written:
            typer.echo(path)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
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
            facts = [file.name, f"or {file.either}" if file.either else None]
            facts += [f"{file.size} bytes" if file.size else None, file.sha256]
            typer.echo("  file      " + "  ".join(fact for fact in facts if fact))
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
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint's tensors as safetensors, which cannot hold code."""
    with _one_line_errors():
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
            facts = {
                "source": str(path),
                "target": str(written),
                "tensors": len(state),
                "sha256": file_sha256(written),
            }
            _print(facts, as_json=as_json)


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

    name: Annotated[str | None, typer.Option(help="Of the upscaler; default: the file's.")] = None
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
    as_json: AsJson = False,
) -> None:
    """Make an embedded upscaler of a model file, checked against the original."""
    with _one_line_errors("[import]"):
        from trustscale_worker.importing.importer import import_model, picture_of  # noqa: PLC0415

        imported = import_model(
            source,
            config,
            name=conversion.name or source.stem,
            out=conversion.out or source.with_suffix(".onnx"),
            picture=None if conversion.picture is None else picture_of(conversion.picture),
            halo=conversion.halo,
            force=conversion.force,
        )
        _print(imported.model_dump(mode="json"), as_json=as_json)


@models.command()
@with_options(engine=(EngineSpec, FILES))
def verify(
    engine: dict[str, Any],
    folder: Annotated[
        Path | None, typer.Argument(help="Name the known models in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load weight files as a worker would, and print their hashes and the fingerprint.

    With --json all faults of files that do not fit are named. Of a folder, the known models in it
    and what they lack are printed.
    """
    with _one_line_errors(whole=as_json):
        if folder is not None:
            _identify(folder, as_json=as_json)
            return
        from trustscale_worker.models.engine import load_engine  # noqa: PLC0415

        spec = EngineSpec(**engine)
        given = [path for path in (spec.weights, spec.autoencoder) if path and path.is_file()]
        hashes = {str(path): file_sha256(path) for path in given}
        loaded = load_engine(spec)
        facts = {
            "name": loaded.name,
            "scale": loaded.scale,
            "dtype": spec.dtype,
            "fingerprint": loaded.fingerprint,
            "sha256": hashes,
        }
        _print(facts, as_json=as_json)


def _identify(folder: Path, *, as_json: bool) -> None:
    """Print what a folder holds; fail unless a known model is complete."""
    models = identify(folder)
    if as_json:
        typer.echo(
            json.dumps([{**model.model_dump(), "complete": model.complete} for model in models])
        )
    else:
        for model in models:
            lacks = [*(f"{name} is missing" for name in model.missing), *model.wrong]
            state = "; ".join(lacks) or f"complete, by {model.checked}"
            typer.echo(f"{model.model:12} {model.weights}  {state}")
    if not any(model.complete for model in models):
        raise WeightsError(
            f"{folder} holds no known model that is complete; see `trustscale models list`"
        )


@contextmanager
def _one_line_errors(extra: str = "", *, whole: bool = False) -> Iterator[None]:
    """Turn what the operator can correct into one line and an exit code.

    With `whole` the line names every fault; `extra`, in brackets, installs a missing module.
    """
    try:
        yield
    except WorkerError as error:
        text = error.summary if isinstance(error, WeightsError) and not whole else str(error)
        _fail(text, USAGE if isinstance(error, ConfigError) else FAILURE, error)
    except TrustscaleError as error:
        _fail(error.detail, USAGE, error)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}", FAILURE, error)
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed; this needs trustscale-worker{extra}"
        _fail(text, FAILURE, error)


def _fail(text: str, code: int, cause: Exception) -> None:
    typer.echo(f"error: {' '.join(text.split())}", file=sys.stderr)
    raise typer.Exit(code) from cause


def _print(facts: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            for name, inner in value.items():
                typer.echo(f"{key:12} {inner}  {name}")
        else:
            typer.echo(f"{key:12} {value}")
