"""Coverage-guided fuzzing by hand, for as long as you like:

    python -m tests.fuzz image --seconds 120
    python -m tests.fuzz --list

What crashes is written as `crash-…` into the folder `--out` and the program ends with a code other
than 0. Run it again on that file: `python -m tests.fuzz image crash-…`.
"""

import argparse
import faulthandler
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

# Pixels and arrays are made by C code, whose branches cannot be seen; ours and zipfile's can.
INSTRUMENTED = [
    "trustscale_server.images", "trustscale_server.calibration",
    "trustscale_server.upscalers.remote", "zipfile", "tarfile",
]  # fmt: skip


def main():
    """Fuzz one target, or run it once on each given file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.fuzz")
    parser.add_argument("target", nargs="?")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()

    warnings.simplefilter("ignore")  # of Pillow and numpy, about damaged files
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented as it is imported

    if arguments.target not in TARGETS:
        parser.exit(2, "\n".join(TARGETS) + "\n")
    target = TARGETS[arguments.target]
    faulthandler.enable()
    # An answer that asks for all memory must fail here, not take the machine down.
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
    if arguments.files:
        for path in arguments.files:
            target.run(path.read_bytes())
        return

    with tempfile.TemporaryDirectory(prefix="trustscale-fuzz-") as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(target.seeds()):
            target.run(seed)
            (corpus / f"seed{number}").write_bytes(seed)
        escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        bounds = f"-max_total_time={arguments.seconds} -max_len=16384 -timeout=10".split()
        options = ["-use_value_profile=1", "-rss_limit_mb=2048", "-print_final_stats=1"]
        places = [f"-dict={words}", f"-artifact_prefix={arguments.out}/"]
        atheris.Setup([sys.argv[0], str(corpus), *places, *bounds, *options], target.run)
        atheris.Fuzz()


main()
