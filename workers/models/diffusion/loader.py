"""Reads a pipeline of a known class from safetensors in a folder, without network access."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from workers import weights
from workers.errors import WeightsError
from workers.files import read_json
from workers.models.diffusion.pipelines import PIPELINES

# Components that judge or mark finished pictures.
LEFT_OUT = ("safety_checker", "feature_extractor", "watermarker", "image_encoder")
LIBRARIES = ("diffusers", "transformers")


def load(folder: Path) -> Any:
    """The library's pipeline, in the precision of its files, on the CPU.

    Raises:
        WeightsError: no pipeline, another kind, pickled weights, or damaged files.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise WeightsError(f"{folder}: {name} is not one of {', '.join(PIPELINES)}")
    kept = {
        part: origin[0] if origin else None
        for part, origin in index.items()
        if isinstance(origin, list) and part not in LEFT_OUT
    }
    strange = [part for part, library in kept.items() if library not in LIBRARIES]
    if strange:
        raise WeightsError(
            f"{folder}: {', '.join(strange)}: code of neither diffusers nor transformers"
        )
    pickled = [part for part in kept if _only_pickled(folder / part)]
    if pickled:
        raise WeightsError(
            f"{folder}: {', '.join(pickled)}: pickled weights only; `trustscale models convert "
            f"{folder}` makes safetensors of them"
        )
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    try:
        return getattr(diffusers, name).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            **{part: None for part in index if part in LEFT_OUT},
        )
    except ModuleNotFoundError:
        raise
    except Exception as error:  # the library's readers may raise anything
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise WeightsError(f"{folder}: cannot be loaded ({first[0]})") from error


def pipeline_digest(pipe: Any) -> dict[str, object]:
    """Classes, configurations and weights, which decide a pipeline's pixels beside the settings."""
    facts: dict[str, object] = {"class": type(pipe).__name__}
    for name, component in sorted(pipe.components.items()):
        if component is None:
            continue
        config = getattr(component, "config", {})
        plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
        found = {key: str(value) for key, value in plain.items() if not key.startswith("_")}
        found.pop("transformers_version", None)
        if isinstance(component, torch.nn.Module):
            found["weights"] = weights.digest(component.state_dict())
        facts[name] = found
    return facts


def _only_pickled(folder: Path) -> bool:
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))
