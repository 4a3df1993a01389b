"""A gateway process with everything behind it, and schemathesis that is let loose on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import quick_services
from described_requests import FILE
from embedded_servers import mongo_server, valkey_server
from flask_openapi import OpenAPI
from gateways import MODELS_FOLDER, gateway_under_gunicorn, opened
from quick_worker import quick_worker

from enlight.main_api.settings import Settings
from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[3]
SUPPORT = Path(__file__).parent
SEED = 20261126
CONFIGURATION = """\
seed = {seed}
request-timeout = 60
max-stream-events = 5
continue-on-failure = true
[generation]
max-examples = {examples}
deterministic = {deterministic}
database = "none"
no-shrink = true
# A request without a key, or with another one, is what the check `ignored_auth` sends.
with-security-parameters = false
[phases.stateful]
max-steps = 8
generation = {{ max-examples = {scenarios}, mode = "positive" }}
[auth.openapi]
bearer = {{ bearer = "{key}" }}
[checks.not_a_server_error]
# The others by their names: `errors_are_the_suites` looks at those.
expected-statuses = ["2xx", "4xx", "502", "503", "504"]
[checks.negative_data_rejection]
expected-statuses = ["400", "404", "409", "413", "414", "415", "422"]
[checks.positive_data_acceptance]
# Whether a text is a picture and a name a model's is more than a schema can say.
enabled = false
[[operations]]
include-path = "/v1/models/import"
# What `Allow` says is true: the URL is that of a model called `import`, too.
checks = {{ allow_header_conformance = {{ enabled = false }} }}
"""


@dataclass(frozen=True)
class Target:
    """A gateway to be tested."""

    url: str
    key_id: str
    key: str
    log: Path


@contextmanager
def running_target(folder: Path, *, real_bgrem: bool) -> Iterator[Target]:
    """The gateway under gunicorn, with a real database, queue and cache, and a worker that takes trainings.

    Args:
        folder: For all of them.
        real_bgrem: Whether pictures are really cut out; the other services' answers are there at once.
    """
    with ExitStack() as stack:
        mongo = stack.enter_context(mongo_server(folder / "mongo"))
        valkey = stack.enter_context(valkey_server(folder / "valkey"))
        settings = Settings(
            data_folder=folder / "data",
            models_folder=MODELS_FOLDER,
            default_base_model="enlight/pocket",
            mongo_url=mongo.url,
            queue_url=valkey.url,
            cache_urls=[valkey.url],
            max_queued_trainings=100_000,
            max_all_queued_trainings=100_000,
            event_poll_s=0.02,
            bgrem_urls=[_real_bgrem(stack, folder) if real_bgrem else _served(stack, quick_services.bgrem())],
            dreambooth_urls=[_served(stack, quick_services.dreambooth(MODELS_FOLDER, folder / "dreambooth"))],
            upsampler_urls=[_served(stack, quick_services.upsampler(folder))],
            realesrgan_urls=[_served(stack, quick_services.realesrgan(folder))],
        )
        stores = stack.enter_context(opened(settings))
        stack.enter_context(quick_worker(stores, folder / "trained"))
        record, key = stores.keys.create("fuzzing", "admin")
        log = folder / "gateway.log"
        gateway = gateway_under_gunicorn(settings, log)
        yield Target(stack.enter_context(gateway).url, record.id, key.text, log)


def run_schemathesis(
    target: Target, folder: Path, *, examples: int, scenarios: int, deterministic: bool
) -> subprocess.CompletedProcess[str]:
    """The program's status and report.

    Args:
        target: What it asks.
        folder: For its configuration.
        examples: Generated requests of one operation, besides those that the schemas' edges give.
        scenarios: Sequences of operations, each on what the one before it made.
        deterministic: Whether each run sends the same; else the seed is in the report.
    """
    configuration = CONFIGURATION.format(
        seed=SEED,
        examples=examples,
        scenarios=scenarios,
        deterministic=str(deterministic).lower(),
        key=target.key,
    )
    (folder / "schemathesis.toml").write_text(configuration)
    paths = [str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "FUZZING_KEY_ID": target.key_id,
    }
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"]
    return subprocess.run(
        [*command, "run", str(FILE), "--url", target.url, "--no-color"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _served(stack: ExitStack, app: OpenAPI) -> str:
    return stack.enter_context(quick_services.served(app))


def _real_bgrem(stack: ExitStack, folder: Path) -> str:
    """A bgrem whose default is its smallest network."""
    weights = folder / "weights"
    weights.mkdir()
    network = MODELS_FOLDER / "bgrem" / "u2netp.onnx"
    sums = {"u2net.onnx": hashlib.sha256(network.read_bytes()).hexdigest()}
    for name in ("u2netp.onnx", *sums):
        (weights / name).symlink_to(network)
    bgrem = LocalService(
        "enlight.bgrem.app:create_app()",
        gunicorn_config=ROOT / "bgrem" / "gunicorn.conf.py",
        env_prefix="BGREM_",
        settings={"WEIGHTS_FOLDER": str(weights), "WEIGHTS_SHA256": json.dumps(sums), "CPU_THREADS": "1"},
        log=folder / "bgrem.log",
    )
    return stack.enter_context(bgrem).url
