"""The manifests as kubectl builds them: valid, and in line with each other and with the services' settings."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from enlight.bgrem.settings import Settings as BgremSettings
from enlight.dashboard.settings import Settings as DashboardSettings
from enlight.dreambooth_api.settings import Settings as DreamboothSettings
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.jobkit.dispatcher import TRAIN_QUEUE
from enlight.main_api.settings import Settings as MainApiSettings
from enlight.realesrgan.settings import Settings as RealesrganSettings
from enlight.servicekit.service_settings import HttpSettings
from enlight.servicekit.settings import ServiceSettings, load_settings
from enlight.upsampler.settings import Settings as UpsamplerSettings

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
OVERLAYS = ["k8s/overlays/cpu", "k8s/overlays/gpu", "k8s/overlays/gke"]
SETTINGS: dict[str, type[ServiceSettings]] = {
    "bgrem": BgremSettings,
    "dreambooth-api": DreamboothSettings,
    "dreambooth-worker": WorkerSettings,
    "dashboard": DashboardSettings,
    "main-api": MainApiSettings,
    "realesrgan": RealesrganSettings,
    "upsampler": UpsamplerSettings,
}
CONNECTIONS = {
    "mongo-url": "mongodb://user:password@mongo:27017",
    "queue-url": "redis://:password@queue:6379/0",
    "queue-address": "queue:6379",
    "queue-password": "password",
    "cache-urls": '["redis://:password@cache:6379/0"]',
    "cache-secret": "0" * 64,
    "dashboard-secret": "1" * 64,
    "models-bucket-url": "gs://modelids",
    "jobs-bucket-url": "gs://jobs",
    "pictures-bucket-url": "gs://pictures",
    "files-bucket-url": "gs://files",
    "cache-bucket-url": "gs://answers",
}
"""What the README has the user put into the secret ``enlight-connections``."""

Manifest = dict[str, Any]


@functools.cache
def _build(folder: str) -> str:
    built = subprocess.run(
        [TOOLS / "kubectl", "kustomize", ROOT / folder], capture_output=True, text=True, check=True, timeout=60
    )
    assert not built.stderr
    return built.stdout


def _manifests(folder: str, kind: str) -> dict[str, Manifest]:
    every = [manifest for manifest in yaml.safe_load_all(_build(folder)) if manifest["kind"] == kind]
    return {manifest["metadata"]["name"]: manifest for manifest in every}


def _pod(deployment: Manifest) -> Manifest:
    pod: Manifest = deployment["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("folder", [*OVERLAYS, "bgrem/k8s-config"])
def test_manifests_are_strictly_valid(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "built.yaml"
    path.write_text(_build(folder))
    checked = subprocess.run(
        [TOOLS / "kubernetes-validate", "--strict", "--quiet", path], capture_output=True, text=True, timeout=120
    )
    said = (checked.stdout + checked.stderr).splitlines()
    assert checked.returncode == 0, said
    # KEDA's kinds have no schema there; they are not checked by this.
    assert all("kind ScaledObject" in line or "kind TriggerAuthentication" in line for line in said), said


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_environment_of_each_pod_is_one_that_its_service_starts_with(folder: str) -> None:
    config_maps = _manifests(folder, "ConfigMap")
    deployments = _manifests(folder, "Deployment")
    assert deployments.keys() == SETTINGS.keys()
    asked_of_secret = {
        target["key"]
        for authentication in _manifests(folder, "TriggerAuthentication").values()
        for target in authentication["spec"]["secretTargetRef"]
        if target["name"] == "enlight-connections"
    }
    for name, deployment in deployments.items():
        (container,) = _pod(deployment)["containers"]
        environ: dict[str, str] = {}
        for source in container.get("envFrom", []):
            environ |= config_maps[source["configMapRef"]["name"]]["data"]
        for variable in container.get("env", []):
            if "value" in variable:
                assert "://" not in variable["value"]
                environ[variable["name"]] = variable["value"]
            else:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["name"] == "enlight-connections"
                environ[variable["name"]] = CONNECTIONS[reference["key"]]
                asked_of_secret.add(reference["key"])
        settings = load_settings(SETTINGS[name], environ)
        if isinstance(settings, HttpSettings):
            assert [port["containerPort"] for port in container["ports"]] == [settings.port]
    assert asked_of_secret == CONNECTIONS.keys()
    readme = (ROOT / "k8s" / "README.md").read_text()
    assert all(f"--from-literal={key}=" in readme for key in CONNECTIONS)


@pytest.mark.parametrize("folder", [*OVERLAYS, "bgrem/k8s-config"])
def test_every_pod_is_confined_watched_and_may_be_disrupted_one_at_a_time(folder: str) -> None:
    deployments = _manifests(folder, "Deployment")
    budgets, services = _manifests(folder, "PodDisruptionBudget"), _manifests(folder, "Service")
    assert budgets.keys() == deployments.keys()
    instances = {name: services.pop(name) for name in list(services) if name.endswith("-instances")}
    assert services.keys() == deployments.keys() - {"dreambooth-worker"}
    assert instances.keys() == {f"{name}-instances" for name in services.keys() - {"main-api", "dashboard"}}
    for name, deployment in deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budgets[name]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budgets[name]["spec"]["maxUnavailable"] == 1
        pod = _pod(deployment)
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert {"requests", "limits"} <= container["resources"].keys()
        if name in services:
            assert services[name]["spec"]["selector"].items() <= labels.items()
            assert container["startupProbe"]["httpGet"]["path"] == "/ready"
            assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
            assert container["livenessProbe"]["httpGet"]["path"] == "/live"
        # A worker has no service, and is asked for its metrics all the same
        assert deployment["spec"]["template"]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(container["ports"][0]["containerPort"]),
            "prometheus.io/path": "/metrics",
        }
        assert container["ports"][0]["name"] == "http"  # as the network policies call it


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    chosen = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in chosen)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in chosen
    )


def _allowed(folder: str, labels: dict[str, str], direction: str) -> list[Manifest] | None:
    """The rules for a pod with these labels; None: there is no policy for it, so that everything may."""
    policies = [
        policy["spec"]
        for policy in _manifests(folder, "NetworkPolicy").values()
        if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], labels)
    ]
    return [rule for policy in policies for rule in policy.get(direction.lower(), [])] if policies else None


@pytest.mark.parametrize("folder", OVERLAYS)
def test_a_pod_is_reached_by_those_only_who_need_it(folder: str) -> None:
    anybody = None
    gateway = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "main-api"}}}]
    prometheus = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    callers = {
        "main-api": [anybody, prometheus],
        "dashboard": [anybody, prometheus],
        "dreambooth-api": [gateway, prometheus],
        "dreambooth-worker": [prometheus],
        "bgrem": [gateway, prometheus],
        "realesrgan": [gateway, prometheus],
        "upsampler": [gateway, prometheus],
    }
    for name, deployment in _manifests(folder, "Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        rules = _allowed(folder, labels, "Ingress")
        assert rules is not None
        assert [rule.get("from") for rule in rules] == callers[name]
        assert all(rule["ports"] == [{"port": "http"}] for rule in rules)
        goes_nowhere = _allowed(folder, labels, "Egress") == []
        assert goes_nowhere == (name in {"bgrem", "realesrgan", "upsampler"})
        if name == "dashboard":
            to_gateway, names = _allowed(folder, labels, "Egress") or []
            assert to_gateway == {"to": gateway, "ports": [{"port": "http"}]}
            assert {port["port"] for port in names["ports"]} == {53}
    # Pods of the namespace that are not ours are closed as well
    assert _allowed(folder, {"app": "another"}, "Ingress") == []


@pytest.mark.parametrize("folder", OVERLAYS)
def test_the_gateway_asks_each_pod_how_it_is(folder: str) -> None:
    (settings,) = (each["data"] for each in _manifests(folder, "ConfigMap").values())
    services, deployments = _manifests(folder, "Service"), _manifests(folder, "Deployment")
    for name in ("dreambooth-api", "bgrem", "realesrgan", "upsampler"):
        (url,) = json.loads(settings[f"MAIN_API_{name.removesuffix('-api').upper()}_INSTANCE_URLS"])
        host, port = urlsplit(url).hostname, urlsplit(url).port
        assert host == f"{name}-instances"
        spec = services[host]["spec"]
        # Without an address of its own its name has those of all pods, and their port is the container's
        assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
        assert spec["selector"] == deployments[name]["spec"]["selector"]["matchLabels"]
        (container,) = _pod(deployments[name])["containers"]
        assert port == container["ports"][0]["containerPort"] == spec["ports"][0]["port"]


@pytest.mark.parametrize("folder", OVERLAYS)
def test_workers_are_added_while_jobs_wait_in_the_queue_that_is_used(folder: str) -> None:
    scaled = _manifests(folder, "ScaledObject")["dreambooth-worker"]["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["scaleTargetRef"]["name"] in _manifests(folder, "Deployment")
    assert trigger["metadata"]["listName"] == f"rq:queue:{TRAIN_QUEUE}"
    assert trigger["authenticationRef"]["name"] in _manifests(folder, "TriggerAuthentication")
    assert "replicas" not in _manifests(folder, "Deployment")["dreambooth-worker"]["spec"]
    # One that trains is not to be taken away because nothing waits
    behaviour = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleDown"]["selectPolicy"] == "Disabled"


@pytest.mark.parametrize("folder", OVERLAYS)
def test_replicas_of_a_node_share_the_model_cache(folder: str) -> None:
    pod = _pod(_manifests(folder, "Deployment")["dreambooth-api"])
    (volume,) = [volume for volume in pod["volumes"] if "hostPath" in volume]
    environ = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert environ["DREAMBOOTH_API_MODEL_CACHE_FOLDER"] == f"{mounts[volume['name']]}/models"
    assert pod["initContainers"][0]["command"][-1] == environ["DREAMBOOTH_API_MODEL_CACHE_FOLDER"]


@pytest.mark.parametrize(("folder", "gpus"), [(OVERLAYS[0], False), (OVERLAYS[1], True), (OVERLAYS[2], True)])
def test_only_the_overlays_for_gpus_ask_for_them(folder: str, *, gpus: bool) -> None:
    on_gpu = {
        name
        for name, deployment in _manifests(folder, "Deployment").items()
        if "nvidia.com/gpu" in _pod(deployment)["containers"][0]["resources"]["limits"]
    }
    assert on_gpu == ({"dreambooth-api", "dreambooth-worker", "realesrgan", "upsampler"} if gpus else set())
