"""The scripts that the chart `opencs` runs in its pods, run for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
SCRIPTS = PROJECT / "deploy" / "chart" / "files"
GOOD = 'profile = "faithful"\n'
EXPERIMENTS = "selectors:\n  longest_words: {method: longest, length: words, k: 500}\n"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if "OPENCS" not in name}
    return subprocess.run(
        [sys.executable, SCRIPTS / script, *map(str, arguments)],
        env={**variables, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "settings.toml").write_text(GOOD)
    (folder / "experiments.yaml").write_text(EXPERIMENTS)
    return folder


def test_settings_are_put_into_a_new_home(given: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run("install_settings.py", given, home)
    assert done.returncode == 0, done.stderr
    assert (home / "settings.toml").read_text() == GOOD
    assert (home / "experiments.yaml").read_text() == EXPERIMENTS
    assert (home / "landing").is_dir()
    assert not list(home.glob(".settings.toml.*"))


def test_experiments_may_refer_to_those_that_the_home_has_beside_them(
    given: Path, tmp_path: Path
) -> None:
    further = tmp_path / "home" / "experiments.d" / "grid.yaml"
    further.parent.mkdir(parents=True)
    further.write_text("selectors:\n  lima: {method: random}\n")
    content = "experiments:\n  x: {selector: lima, base_model: smollm2-135m}\n"
    (given / "experiments.yaml").write_text(content)
    done = run("install_settings.py", given, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home" / "experiments.yaml").read_text() == content


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("settings.toml", 'profile = "fathful"\n', "profile"),
        ("settings.toml", "[launcher\n", "settings.toml"),
        ("settings.toml", '[judging]\npair = "nonsense"\n', "no judge protocol"),
        ("experiments.yaml", "experiments:\n  x: {selector: none}\n", "experiments"),
        ("experiments.yaml", "a: [\n", "experiments.yaml"),
    ],
)
def test_unusable_settings_change_nothing_and_say_why(
    given: Path, tmp_path: Path, file: str, content: str, said: str
) -> None:
    home = tmp_path / "home"
    assert run("install_settings.py", given, home).returncode == 0
    (given / file).write_text(content)
    done = run("install_settings.py", given, home)
    assert done.returncode == 1
    assert "settings were not installed" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (home / "settings.toml").read_text() == GOOD
    assert (home / "experiments.yaml").read_text() == EXPERIMENTS


def test_a_volume_that_is_not_writable_is_named(given: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    done = run("install_settings.py", given, home)
    assert done.returncode == 1
    assert "can't be written to" in done.stderr
    assert "`home` and `user`" in done.stderr


def test_a_node_without_gpus_fails_the_gpu_test_in_one_sentence(tmp_path: Path) -> None:
    import torch

    missing = torch.cuda.device_count() + 1
    done = run("gpu_test.py", tmp_path, missing)
    assert done.returncode == 1
    assert f"of {missing} GPUs: check the device plugin" in done.stderr
    assert "not writable" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_volume_that_the_trainer_cant_write_to_fails_the_gpu_test(tmp_path: Path) -> None:
    done = run("gpu_test.py", tmp_path / "absent", 0)
    assert done.returncode == 1
    assert "absent is not writable for user" in done.stderr


def test_the_charts_default_experiments_are_usable(tmp_path: Path) -> None:
    values = yaml.safe_load((PROJECT / "deploy" / "chart" / "values.yaml").read_text())
    (tmp_path / "settings.toml").write_text("")
    (tmp_path / "experiments.yaml").write_text(values["experiments"])
    done = run("install_settings.py", tmp_path, tmp_path / "home")
    assert done.returncode == 0, done.stderr
