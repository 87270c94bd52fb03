"""Write what each image installs, with the versions of requirements.lock: its own packages alone.

``python deploy/docker/select_requirements.py [--check]``, with the project's environment, which
knows what each package needs. The orchestrator's image has what pyproject.toml names, with S3 and
the trackers; the trainer's has what training and answering import, and dagster-pipes instead of
dagster.
"""

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
EXTRAS = ("s3", "tracking")
TRAINER = (
    "accelerate",
    "bitsandbytes",
    "dagster-pipes",
    "datasets",
    "deepspeed",
    "filelock",
    "fsspec",
    "httpx",
    "huggingface-hub",
    "jinja2",
    "mlflow-skinny",
    "numpy",
    "peft",
    "polars",
    "pyarrow",
    "pydantic",
    "pydantic-settings[toml]",
    "pyyaml",
    "s3fs",
    "safetensors",
    "torch",
    "transformers",
    "trl",
    "wandb",
)
HEADER = """\
# What the {image}'s image installs: the lines of requirements.lock that it needs, and no other.
# Written by `python deploy/docker/select_requirements.py`.
"""


def locked() -> dict[str, str]:
    """The lines of requirements.lock by the package's normalized name."""
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(line.split("==")[0]): line for line in pins}


def closure(roots: Iterable[str]) -> set[str]:
    """Normalized names of packages and of all that they need on this platform.

    Args:
        roots: Requirements, such as ``moto[s3]>=5``.
    """
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needed = requires(name) or []
            except PackageNotFoundError:
                continue
            found.add(name)
            waiting += [
                further
                for further in map(Requirement, needed)
                if further.marker is None or further.marker.evaluate({"extra": extra})
            ]
    return found


def selections() -> dict[str, str]:
    """Content of each image's requirements file, by its name."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    orchestrator = [
        *project["dependencies"],
        *(line for extra in EXTRAS for line in project["optional-dependencies"][extra]),
    ]
    lock = locked()
    return {
        f"{image}-requirements.txt": HEADER.format(image=image)
        + "".join(f"{lock[name]}\n" for name in sorted(closure(roots) & lock.keys()))
        for image, roots in (("orchestrator", orchestrator), ("trainer", TRAINER))
    }


def main() -> None:
    """Write the files, or with ``--check`` say which is not as it should be."""
    wrong = []
    for name, content in selections().items():
        file = HERE / name
        if "--check" not in sys.argv[1:]:
            file.write_text(content, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != content:
            wrong.append(name)
    if wrong:
        sys.exit(f"not as requirements.lock says: {', '.join(wrong)}; run {Path(__file__).name}")


if __name__ == "__main__":
    main()
