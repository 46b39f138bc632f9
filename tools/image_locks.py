"""The packages of the images, locked with their hashes: `requirements/images/*.txt`.

    python -m tools.image_locks

Asks the package index, through uv, for the hashes of the versions in `requirements/*.txt`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "requirements/images"
UV: Final = ROOT / ".tools/uv/bin/uv"
CONSTRAINTS: Final = ("requirements/constraints.txt", "requirements/sana.txt")
EXTRAS: Final = {
    "gateway": "s3",
    "pool": "ray,painter,s3",
    "actor": "ray,painter,sana,s3",
}
"""What each image has of the distribution's extras."""
OURS: Final = ("sana-gateway", "sana-gateway-client")
"""Built from this checkout, and so without a hash."""
HEAD: Final = "# Made by `python -m tools.image_locks` from requirements/constraints.txt.\n"


def requirements(image: str) -> str:
    """Returns what an image is to have, as requirements; `build` makes our own packages."""
    if image == "build":
        return "hatchling\n"
    client = (ROOT / "sdk_adapters/python").as_uri()
    return f"sana-gateway-client @ {client}\nsana-gateway[{EXTRAS[image]}] @ {ROOT.as_uri()}\n"


def lock(image: str) -> str:
    """Returns the locked requirements of an image.

    Raises:
        CalledProcessError: uv found no versions that fit.
    """
    options = [f"--constraint={path}" for path in CONSTRAINTS]
    options += [f"--no-emit-package={name}" for name in OURS]
    command = [
        *(UV, "pip", "compile", "-", "--quiet", "--generate-hashes", "--no-header"),
        *("--no-annotate", "--python-version=3.11", "--python-platform=x86_64-manylinux_2_28"),
        *options,
    ]
    done = subprocess.run(
        command, cwd=ROOT, input=requirements(image), stdout=subprocess.PIPE, text=True, check=True
    )
    return HEAD + done.stdout


def main() -> None:
    """Writes all of them."""
    for image in ("build", *EXTRAS):
        (FOLDER / f"{image}.txt").write_text(lock(image))


if __name__ == "__main__":
    main()
