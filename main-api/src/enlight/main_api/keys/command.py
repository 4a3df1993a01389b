"""Keys from the command line, for the first one above all: ``python -m enlight.main_api.keys.command create ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from enlight.jobkit.database import open_database
from enlight.main_api.keys.key_store import KeyStore
from enlight.main_api.keys.tenants import check_tenant
from enlight.main_api.settings import Settings
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.settings import SettingsError, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes, lists, renews or revokes keys; the database is the one of the gateway's settings. Returns the status."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(Settings)
        database = open_database(settings.mongo_url, settings.mongo_database, timeout_s=settings.mongo_timeout_s)
        try:
            for line in _run(KeyStore(database), options):
                sys.stdout.write(f"{line}\n")
        finally:
            database.client.close()
    except (ServiceError, SettingsError) as error:
        sys.stderr.write(f"keys: {error}\n")
        return 1
    return 0


def _run(store: KeyStore, options: argparse.Namespace) -> list[str]:
    if options.command == "create":
        return [store.create(options.tenant, options.scope, options.name)[1].text]
    if options.command == "rotate":
        return [store.rotate(options.key_id)[1].text]
    if options.command == "revoke":
        return [f"{store.revoke(options.key_id).id} is revoked"]
    return [
        f"{key.id}  {key.tenant}  {key.scope}  {'revoked' if key.revoked_at else 'valid'}  {key.name}".rstrip()
        for key in store.list(options.tenant)
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m enlight.main_api.keys.command", description="The gateway's API keys."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--tenant", required=True, type=_tenant)
    create.add_argument("--scope", choices=("user", "admin"), default="user")
    create.add_argument("--name", default="", help="what it is used for")
    commands.add_parser("list", help="keys without their secrets").add_argument("--tenant", type=_tenant)
    for command, text in (("rotate", "give a key a new secret and print it"), ("revoke", "end a key")):
        commands.add_parser(command, help=text).add_argument("key_id")
    return parser


def _tenant(text: str) -> str:
    try:
        return check_tenant(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
