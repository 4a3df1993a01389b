"""Settings of a service: one frozen class of fields, read once from environment variables with the service's prefix.

This is the only module that reads the environment; everything else takes settings as arguments.
"""

from __future__ import annotations

import difflib
import json
import os
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as UnparsableSetting,
)

_FILE_SUFFIX = "_FILE"
_TRACE_RECEIVERS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class SettingsError(Exception):
    """The environment does not give valid settings. The message names each variable, and never shows a value."""


class ServiceSettings(BaseSettings):
    """Base of a service's settings; a subclass sets ``model_config = SettingsConfigDict(env_prefix="BGREM_")``.

    Each field has a description, which names its unit; a secret is a ``SecretStr`` without a default. Built with
    keyword arguments it reads nothing else: a test's settings are what the test wrote.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        env_ignore_empty=True,  # compose files pass on unset variables as empty ones
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments only; ``load_settings`` adds the environment."""
        return (init_settings,)


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def load_settings(cls: type[SettingsT], environ: Mapping[str, str] | None = None) -> SettingsT:
    """The settings that the environment gives; an empty variable counts as unset.

    ``<NAME>_FILE`` names a file that holds the value instead: an environment is seen by more eyes than a secret may be.
    Raises SettingsError for invalid values and for each variable with the prefix that is not a setting.
    """
    if environ is None:
        environ = os.environ  # noqa: TID251 — the one place
    known = {variable_name(cls, field) for field in cls.model_fields}
    given, problems = {}, []
    for name in sorted(name for name in environ if name.upper().startswith(_prefix(cls))):
        setting = name.removesuffix(_FILE_SUFFIX)
        if name in known:
            given[name] = environ[name]
        elif setting not in known:
            problems.append(_unknown(name, known))
        elif environ[name] and environ.get(setting):
            problems.append(f"{name}: {setting} is set, too")
        elif environ[name]:
            try:
                given[setting] = Path(environ[name]).read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{name}: the file cannot be read ({type(error).__name__})")
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        return cls(**_GivenEnvironment(cls, given)())
    except ValidationError as error:
        raise SettingsError("\n".join(_problems(cls, error))) from None  # the cause holds values
    except UnparsableSetting as error:
        field = next((field for field in cls.model_fields if f'"{field}"' in str(error)), "")
        raise SettingsError(f"{variable_name(cls, field)}: not valid JSON") from None


def variable_name(cls: type[ServiceSettings], field: str) -> str:
    """The environment variable of a field."""
    return _prefix(cls) + field.upper()


@dataclass(frozen=True)
class SettingRow:
    """One setting, as it is documented."""

    name: str
    """Of the environment variable."""
    type: str
    """Python type with its bounds, or the possible values."""
    default: str | None
    """As it would be written in the environment; empty: unset; None: the setting is required."""
    help: str


def settings_table(cls: type[ServiceSettings]) -> list[SettingRow]:
    """The documentation of each setting, in the order of the class."""
    return [
        SettingRow(variable_name(cls, name), _type_text(field), _default_text(field), field.description or "")
        for name, field in cls.model_fields.items()
    ]


def env_example(cls: type[ServiceSettings]) -> str:
    """The text of ``.env.example``: defaults are commented out, required settings wait for a value."""
    return "\n".join(
        f"# {row.help} ({row.type})\n{row.name}=\n"
        if row.default is None
        else f"# {row.help} ({row.type})\n# {row.name}={row.default}\n"
        for row in settings_table(cls)
    )


def traces_wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether OpenTelemetry's variables, which its packages read themselves, name a receiver of traces."""
    if environ is None:
        environ = os.environ  # noqa: TID251
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not is_off and any(environ.get(name, "").strip() for name in _TRACE_RECEIVERS)


def child_environment(overrides: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with changes, for a process that it starts."""
    return {**os.environ, **overrides}  # noqa: TID251 — handed on, not read


class _GivenEnvironment(EnvSettingsSource):
    def __init__(self, cls: type[ServiceSettings], environ: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in environ.items() if value}
        super().__init__(cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def _prefix(cls: type[ServiceSettings]) -> str:
    prefix = cls.model_config.get("env_prefix", "")
    assert prefix == prefix.upper() != "", "a service's settings have a prefix in capitals"
    return prefix


def _unknown(name: str, known: set[str]) -> str:
    (nearest,) = difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.0)
    return f"{name}: no such setting; the nearest is {nearest}"


def _problems(cls: type[ServiceSettings], error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = [str(part) for part in problem["loc"]]
        name = variable_name(cls, path[0]) if path else cls.__name__
        where = f" ({'.'.join(path[1:])})" if path[1:] else ""
        yield f"{name}{where}: {'required' if problem['type'] == 'missing' else problem['msg']}"


def _type_text(field: FieldInfo) -> str:
    text = _annotation_text(field.annotation)
    bounds = [
        f"{sign} {getattr(bound, key)}"
        for bound in field.metadata
        for kind, key, sign in _BOUNDS
        if isinstance(bound, kind)
    ]
    return ", ".join([text, *bounds])


_BOUNDS: list[tuple[type, str, str]] = [
    (annotated_types.Ge, "ge", ">="),
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Le, "le", "<="),
    (annotated_types.Lt, "lt", "<"),
]


def _annotation_text(annotation: Any) -> str:  # noqa: ANN401 — types have no common type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_annotation_text(part) for part in arguments if part is not types.NoneType)
    if origin is Annotated:
        return _annotation_text(arguments[0])
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_annotation_text(part) for part in arguments)}]"
    return "secret" if annotation is SecretStr else str(getattr(annotation, "__name__", annotation))


def _default_text(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, dict | list | tuple | set | frozenset):
        return json.dumps(list(default) if isinstance(default, set | frozenset | tuple) else default, default=str)
    return str(default)
