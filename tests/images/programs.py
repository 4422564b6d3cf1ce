"""Other programs that read and write pictures."""

import shutil
import subprocess

from tests.missing import not_here


def program(name, *words):
    """The output of another program."""
    found = shutil.which(name)
    if found is None:
        not_here(f"{name} is not installed")
    return subprocess.run(
        [found, *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
