import pytest

from resources.llm.request import asked_form
from resources.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("OPENCS_"):
            monkeypatch.delenv(name)


def write(home, text):
    (home / "settings.toml").write_text(text)
    return home


def test_defaults_are_embedded_and_free(tmp_path):
    settings = load_settings(tmp_path)
    assert settings.roles.tagger.embedded
    assert settings.roles.judge.resolved_reading == "logprobs"
    assert settings.on_new_data == "select"
    assert settings.models == tmp_path / "models"


def test_three_lines_switch_a_role(tmp_path):
    write(
        tmp_path,
        '[roles.tagger]\nbase_url = "https://api.openai.com/v1"\nmodel = "gpt-4o-mini"\n',
    )
    role = load_settings(tmp_path).roles.tagger
    assert (role.model, role.resolved_reading, asked_form(role)) == (
        "gpt-4o-mini",
        "generated",
        "json_schema",
    )
    assert role.context == 128_000
    # A paid tagger without a budget: new data is estimated, not tagged.
    assert load_settings(tmp_path).on_new_data == "estimate"


def test_environment_wins_over_file(tmp_path, monkeypatch):
    write(tmp_path, "[method]\nseed = 1\nk = 5\n")
    monkeypatch.setenv("OPENCS_METHOD__SEED", "2")
    method = load_settings(tmp_path).method
    assert (method.seed, method.k) == (2, 5)


def test_home_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENCS_HOME", str(tmp_path / "h"))
    assert load_settings().home == tmp_path / "h"


def test_a_budget_allows_select(tmp_path):
    write(
        tmp_path,
        '[roles.tagger]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n'
        "[budget]\nmax_cost_usd = 5\n",
    )
    assert load_settings(tmp_path).on_new_data == "select"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1\n", "colour"),
        ("[method]\nseed = 'x'\n", "method.seed"),
        ("[method]\nk = 0\n", "method.k"),
        ("profile = 'best'\n", "profile"),
        ("[roles.tagger]\nmodel = 'gpt-4o'\n", "roles.tagger.*serves 'smollm2"),
        ("this is not toml", "is not valid TOML"),
    ],
)
def test_bad_settings_name_the_path(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(write(tmp_path, text))
    assert "settings.toml" in str(error.value)


def test_a_key_in_the_environment_is_never_in_the_message(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-value")
    with pytest.raises(SettingsError) as error:
        load_settings(write(tmp_path, "profile = 'best'\n"))
    assert "very-secret-value" not in str(error.value)
