"""`.env.example` names every setting, with its line of doc and its default, and nothing else."""

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from config.genesys import GenesysSettings
from config.settings import Settings

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
ENTRY = re.compile(r"^# (?P<doc>\S.*)\n#(?P<name>[A-Z_]+)=(?P<value>.*)$", re.MULTILINE)
MODELS: dict[str, type[BaseSettings]] = {"GENESYS_": GenesysSettings, "RETROSCRIBE_": Settings}

FIELDS: dict[str, FieldInfo] = {
    f"{prefix}{field.upper()}": about
    for prefix, model in MODELS.items()
    for field, about in model.model_fields.items()
    if not about.exclude
}
ENTRIES = {match["name"]: match for match in ENTRY.finditer(EXAMPLE.read_text())}


def test_every_setting_has_an_entry_and_nothing_else_does() -> None:
    assert ENTRIES.keys() == FIELDS.keys()


def test_no_line_sets_anything_as_long_as_the_file_is_only_copied() -> None:
    lines = EXAMPLE.read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == []


def test_no_setting_is_named_twice() -> None:
    assert len(re.findall(r"^#[A-Z_]+=", EXAMPLE.read_text(), re.MULTILINE)) == len(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_the_line_of_doc_is_the_setting_s_own(name: str) -> None:
    assert ENTRIES[name]["doc"] == FIELDS[name].description


@pytest.mark.parametrize("name", FIELDS)
def test_the_value_shown_is_what_the_setting_has_when_nothing_is_set(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Given the shown value in the environment, the setting is the same as without it."""
    for variable in FIELDS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    prefix = next(prefix for prefix in MODELS if name.startswith(prefix))
    field = name.removeprefix(prefix).lower()
    unset = getattr(MODELS[prefix](), field)

    monkeypatch.setenv(name, ENTRIES[name]["value"])

    assert getattr(MODELS[prefix](), field) == unset
    assert (unset in (None, ())) == (ENTRIES[name]["value"] == ""), f"{name} should show {unset!r}"
