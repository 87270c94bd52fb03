"""The import's asset: three tables in the lake, what its page shows, and its check."""

import json

import dagster as dg
import pytest

from opencs_assets.imports.assets import build_import_assets
from opencs_assets.imports.checks import build_import_checks
from opencs_assets.imports.kept import keep
from opencs_assets.imports.options import ImportOptions
from opencs_assets.tables.home import prepare_home
from opencs_assets.tables.lake import Lake
from opencs_assets.wiring.home import Home
from opencs_assets.wiring.lake_io import LakeIOManager


def rows(*scores) -> str:
    judged = {"model": "stranger", "judge": ["gpt-4", "single-v1"], "turn": 1}
    return "\n".join(
        json.dumps(judged | {"question_id": f"smoke-{number}", "score": score})
        for number, score in enumerate(scores, 1)
    )


@pytest.fixture
def home(tmp_path):
    return prepare_home(tmp_path / "home").home


def materialize(home) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [*build_import_assets(), *build_import_checks()],
        resources={"home": Home(path=str(home)), "lake": LakeIOManager(home=str(home))},
        instance=dg.DagsterInstance.ephemeral(),
    )


def page(result, name="imported_verdicts") -> dict:
    made = result.asset_materializations_for_node("imported_verdicts")
    (metadata,) = (each.metadata for each in made if each.asset_key == dg.AssetKey(name))
    return {key: value.value for key, value in metadata.items()}


def keep_all(home, folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.jsonl").write_text(text)
        keep(home, folder / f"{name}.jsonl", ImportOptions(benchmark="smoke"))


def test_a_home_without_imports_has_empty_tables(home):
    result = materialize(home)
    assert result.success
    lake = Lake(str(home / "lake"))
    for name in ("imported_verdicts", "rejected_verdicts", "imported_answers"):
        assert lake.read(name, {}).is_empty()
    (check,) = result.get_asset_check_evaluations()
    assert check.passed


def test_the_page_says_what_became_of_the_rows(home, tmp_path):
    keep_all(home, tmp_path, a=rows(7, 8, 11), b=rows(7, 9))
    result = materialize(home)
    assert result.success
    said = page(result)
    assert (said["files"], said["used"], said["duplicate"], said["conflict"]) == (2, 1, 1, 2)
    assert said["judgments_in_conflict"] == 1
    assert "opencs prefer-verdicts FILE" in said["how_to_choose"]
    assert said["rejected_by_reason"] == {"score_out_of_range": 1}
    assert (said["unknown_models"], said["which_unknown_models"]) == (1, "- stranger")
    assert "a.jsonl" in said["by_file"]
    assert page(result, "rejected_verdicts")["reasons"] == {"score_out_of_range": 1}
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "a.jsonl, b.jsonl" in check.description


def test_a_model_with_answers_is_known(home, tmp_path):
    answers = {"question_id": "smoke-1", "model_id": "stranger", "choices": [{"turns": ["Yes."]}]}
    keep_all(home, tmp_path, a=rows(7), answers=json.dumps(answers))
    result = materialize(home)
    assert page(result)["unknown_models"] == 0
    assert page(result, "imported_answers")["models"] == 1


def test_a_choice_that_is_off_fails_with_its_line_and_is_not_retried(home):
    (home / "verdict_choices.csv").write_text("file,row,reason\nabc,,\n")
    with pytest.raises(dg.Failure, match="line 2") as caught:
        materialize(home)
    assert not caught.value.allow_retries
