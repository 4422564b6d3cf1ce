"""docker-compose.yml as one file that needs only `.env` beside it.

    python deploy/one_file.py --prefix ghcr.io/OWNER/ --tag 1.2.3 > compose.yaml

Mounted files become `configs`, and published images replace built ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent


def one_file(prefix: str, tag: str) -> dict[str, Any]:
    """The stack as one document, without monitoring."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    configs: dict[str, dict[str, str]] = {}
    services = {}
    for name, service in document["services"].items():
        if "monitoring" in service.get("profiles", []):
            continue  # its dashboards are many files: it comes with a clone
        if service.pop("build", None):
            image = service["image"].replace("${IMAGE_PREFIX:-}", f"${{IMAGE_PREFIX:-{prefix}}}")
            service["image"] = image.replace("${IMAGE_TAG:-local}", f"${{IMAGE_TAG:-{tag}}}")
        volumes, mounted = [], []
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            if (ROOT / source).is_file():
                key = Path(source).name.replace(".", "-").lower()
                text = (ROOT / source).read_text("utf-8")
                configs[key] = {"content": text.replace("$", "$$")}  # compose fills in no variable
                mounted.append({"source": key, "target": target})
            else:
                volumes.append(volume)
        service["volumes"] = volumes
        if mounted:
            service["configs"] = mounted
        services[name] = service
    used = {v.split(":")[0] for s in services.values() for v in s["volumes"]}
    return {
        "name": document["name"],
        "services": services,
        "networks": document["networks"],
        "volumes": {name: None for name in document["volumes"] if name in used},
        "configs": configs,
    }


def main() -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prefix", required=True, help="registry and owner, with a slash")
    parser.add_argument("--tag", required=True)
    options = parser.parse_args()
    yaml.safe_dump(one_file(options.prefix, options.tag), sys.stdout, sort_keys=False, width=100)


if __name__ == "__main__":
    main()
