"""Settings from environment variables."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from enlight.servicekit.settings import (
    ServiceSettings,
    SettingsError,
    child_environment,
    env_example,
    load_settings,
    settings_table,
)


class Settings(ServiceSettings):
    """A service's settings."""

    model_config = SettingsConfigDict(env_prefix="SERVICEKIT_TEST_")

    port: int = Field(default=5000, ge=1, le=65535, description="Port to listen on.")
    hang_timeout_s: float = Field(default=60.0, gt=0, description="Seconds.")
    device: Literal["auto", "cpu"] = Field(default="auto", description="Where to compute.")
    folder: Path = Field(default=Path("/var/lib/x"), description="Folder.")
    names: dict[str, str] = Field(default_factory=dict, description="Alias to name.")
    note: str | None = Field(default=None, description="A note.")
    debug: bool = Field(default=False, description="More logs.")


class SecretSettings(Settings):
    """With a secret."""

    password: SecretStr = Field(description="Password of the store.")


def test_without_variables_the_defaults_hold() -> None:
    settings = load_settings(Settings, {})
    assert settings == Settings()
    assert (settings.port, settings.folder, settings.names) == (5000, Path("/var/lib/x"), {})


def test_each_kind_of_value_is_read() -> None:
    settings = load_settings(
        Settings,
        {
            "SERVICEKIT_TEST_PORT": "8080",
            "SERVICEKIT_TEST_HANG_TIMEOUT_S": "1.5",
            "SERVICEKIT_TEST_DEVICE": "cpu",
            "SERVICEKIT_TEST_FOLDER": "/tmp",
            "SERVICEKIT_TEST_NAMES": '{"a": "b"}',
            "SERVICEKIT_TEST_NOTE": "hello",
            "SERVICEKIT_TEST_DEBUG": "true",
            "PATH": "/bin",
        },
    )
    assert settings == Settings(
        port=8080, hang_timeout_s=1.5, device="cpu", folder=Path("/tmp"), names={"a": "b"}, note="hello", debug=True
    )


def test_the_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICEKIT_TEST_PORT", "9")
    assert load_settings(Settings).port == 9
    assert Settings().port == 5000, "only load_settings reads the environment"


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings(Settings, {"SERVICEKIT_TEST_PORT": "", "SERVICEKIT_TEST_NOTE": ""}) == Settings()


def test_a_value_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("canary \n")
    settings = load_settings(
        SecretSettings, {"SERVICEKIT_TEST_PASSWORD_FILE": str(file), "SERVICEKIT_TEST_NOTE_FILE": ""}
    )
    assert (settings.password.get_secret_value(), settings.note) == ("canary ", None)


def test_a_file_that_is_away_or_beside_a_value_is_refused_by_name_and_nothing_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xffcanary")
    with pytest.raises(SettingsError) as caught:
        load_settings(
            SecretSettings,
            {
                "SERVICEKIT_TEST_PASSWORD_FILE": str(file),
                "SERVICEKIT_TEST_NOTE_FILE": str(tmp_path / "away"),
                "SERVICEKIT_TEST_PORT": "9",
                "SERVICEKIT_TEST_PORT_FILE": str(file),
                "SERVICEKIT_TEST_PROT_FILE": str(file),
            },
        )
    assert str(caught.value).splitlines() == [
        "SERVICEKIT_TEST_NOTE_FILE: the file cannot be read (FileNotFoundError)",
        "SERVICEKIT_TEST_PASSWORD_FILE: the file cannot be read (UnicodeDecodeError)",
        "SERVICEKIT_TEST_PORT_FILE: SERVICEKIT_TEST_PORT is set, too",
        "SERVICEKIT_TEST_PROT_FILE: no such setting; the nearest is SERVICEKIT_TEST_PORT",
    ]


@pytest.mark.parametrize("name", ["SERVICEKIT_TEST_PROT", "SERVICEKIT_TEST_port", "servicekit_test_port"])
def test_a_misspelt_variable_is_refused_with_the_nearest_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: no such setting; the nearest is SERVICEKIT_TEST_PORT$"):
        load_settings(Settings, {name: "9"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "0"),
        ("PORT", "1.5"),
        ("HANG_TIMEOUT_S", "nan"),
        ("HANG_TIMEOUT_S", "inf"),
        ("DEVICE", "tpu"),
        ("NAMES", "{broken"),
        ("NAMES", '{"a": 1}'),
        ("DEBUG", "perhaps"),
    ],
)
def test_an_invalid_value_is_refused_by_name_and_never_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^SERVICEKIT_TEST_{name}") as caught:
        load_settings(Settings, {f"SERVICEKIT_TEST_{name}": value})
    assert value not in str(caught.value)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(SecretSettings, {"SERVICEKIT_TEST_PORT": "x", "SERVICEKIT_TEST_DEBUG": "perhaps"})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "SERVICEKIT_TEST_PASSWORD: required" in lines


def test_a_secret_does_not_show() -> None:
    settings = load_settings(SecretSettings, {"SERVICEKIT_TEST_PASSWORD": "canary"})
    assert "canary" not in f"{settings} {settings!r} {settings.model_dump_json()}"
    assert settings.password.get_secret_value() == "canary"


def test_settings_are_frozen_and_closed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.__setattr__("port", 1)
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Settings(hang_timeout_s=math.nan)


def test_the_table_says_what_the_documentation_says() -> None:
    rows = {row.name.removeprefix("SERVICEKIT_TEST_"): row for row in settings_table(SecretSettings)}
    assert (rows["PORT"].type, rows["PORT"].default, rows["PORT"].help) == (
        "int, >= 1, <= 65535",
        "5000",
        "Port to listen on.",
    )
    assert {name: row.default for name, row in rows.items()} == {
        "PORT": "5000",
        "HANG_TIMEOUT_S": "60.0",
        "DEVICE": "auto",
        "FOLDER": "/var/lib/x",
        "NAMES": "{}",
        "NOTE": "",
        "DEBUG": "false",
        "PASSWORD": None,
    }
    assert {name: row.type for name, row in rows.items()} == {
        "PORT": "int, >= 1, <= 65535",
        "HANG_TIMEOUT_S": "float, > 0",
        "DEVICE": "auto or cpu",
        "FOLDER": "Path",
        "NAMES": "dict[str, str]",
        "NOTE": "str",
        "DEBUG": "bool",
        "PASSWORD": "secret",
    }


def test_the_example_gives_the_defaults_when_uncommented() -> None:
    lines = env_example(SecretSettings).splitlines()
    assert "SERVICEKIT_TEST_PASSWORD=" in lines
    assert "# SERVICEKIT_TEST_PORT=5000" in lines
    settings = [line.removeprefix("# ") for line in lines if "SERVICEKIT_TEST_" in line]
    environ = dict(line.split("=", 1) for line in settings) | {"SERVICEKIT_TEST_PASSWORD": "x"}
    assert load_settings(SecretSettings, environ) == SecretSettings(password=SecretStr("x"))


def test_a_childs_environment_is_ours_with_changes() -> None:
    assert child_environment({"A": "1"}) == {**os.environ, "A": "1"}
