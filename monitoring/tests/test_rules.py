"""Scrape configurations, rules and alerts, as Prometheus reads them and on recorded series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics_page import declared, sample_names

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")
PROMETHEUS_OWN = {"up", "ALERTS"}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROMTOOL), *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False)


def rules_of(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions_of_dashboards() -> list[str]:
    texts = [json.loads(path.read_text()) for path in (MONITORING / "grafana/dashboards").glob("*.json")]
    return [
        target["expr"].replace("$__rate_interval", "5m")
        for text in texts
        for panel in text["panels"]
        for target in panel.get("targets", [])
    ]


@cache
def known_names() -> set[str]:
    recorded = {rule["record"] for rule in rules_of("recording.yml")}
    return PROMETHEUS_OWN | recorded | {name for metrics in declared().values() for name in sample_names(metrics)}


def names_in(expression: str) -> set[str]:
    """What may be names of series in an expression of ours: without texts, labels, ranges, words of the language."""
    expression = re.sub(r'"[^"]*"', '""', expression)
    expression = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", expression)
    expression = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", " ", expression)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\s*\()\b", expression)
    functions = set(re.findall(r"([a-z_0-9]+)\s*\(", expression))
    return set(words) - functions - {"and", "or", "unless"}


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-compose.yml"])
def test_a_configuration_is_one_that_prometheus_takes(name: str) -> None:
    done = promtool("check", "config", name)
    assert done.returncode == 0, done.stderr


@needs_promtool
def test_the_configuration_for_kubernetes_is_one_but_for_the_discovery(tmp_path: Path) -> None:
    # Debian's promtool is built without Kubernetes: that one section is checked by the eye alone
    config = yaml.safe_load((MONITORING / "prometheus-kubernetes.yml").read_text())
    (scraped,) = config["scrape_configs"]
    (discovery,) = scraped.pop("kubernetes_sd_configs")
    assert discovery == {"role": "pod", "namespaces": {"names": ["enlight"]}}
    config["rule_files"] = [str(RULES / Path(name).name) for name in config["rule_files"]]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    done = promtool("check", "config", tmp_path / "config.yml")
    assert done.returncode == 0, done.stderr


def test_a_cluster_gets_configuration_rules_and_dashboard() -> None:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", MONITORING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = {each["metadata"]["name"]: each for each in yaml.safe_load_all(done.stdout)}
    config = made["enlight-prometheus"]["data"]
    wanted = yaml.safe_load(config["prometheus-kubernetes.yml"])["rule_files"]
    assert {name: config[name] for name in wanted} == {name: (RULES / name).read_text() for name in wanted}
    assert json.loads(made["enlight-dashboards"]["data"]["enlight.json"])["uid"] == "enlight-suite"
    assert {each["metadata"]["namespace"] for each in made.values()} == {"monitoring"}


def test_every_service_is_scraped_under_its_own_name() -> None:
    for name in ("prometheus.yml", "prometheus-compose.yml"):
        config = yaml.safe_load((MONITORING / name).read_text())
        assert {scraped["job_name"] for scraped in config["scrape_configs"]} == set(declared()), name


@needs_promtool
def test_the_rules_are_rules() -> None:
    done = promtool("check", "rules", RULES / "recording.yml", RULES / "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_each_alert_fires_for_what_is_ill_and_for_nothing_else() -> None:
    done = promtool("test", "rules", RULES / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_its_test_in_which_it_is_quiet_and_fires() -> None:
    tests = yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
    seen: dict[str, list[bool]] = {}
    for test in tests:
        for look in test["alert_rule_test"]:
            seen.setdefault(look["alertname"], []).append(bool(look.get("exp_alerts")))
    assert {name: sorted(looks) for name, looks in seen.items()} == {
        rule["alert"]: [False, True] for rule in rules_of("alerts.yml")
    }


def test_each_alert_says_what_it_is_and_where_its_answer_stands() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for rule in rules_of("alerts.yml"):
        notes = rule["annotations"]
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert notes["summary"], rule["alert"]
        assert notes["description"], rule["alert"]
        page, _, anchor = notes["runbook"].partition("#")
        assert (page, anchor) == ("docs/operations.md", rule["alert"].lower())
        assert anchor in anchors, f"{rule['alert']} has no answer in {page}"


@needs_promtool
def test_what_the_dashboards_ask_can_be_asked(tmp_path: Path) -> None:
    expressions = expressions_of_dashboards()
    assert expressions
    rules = [{"record": f"panel:expression{number}", "expr": text} for number, text in enumerate(expressions)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "--lint=none", tmp_path / "panels.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_that_is_asked_for_is_one_that_a_service_has() -> None:
    asked = [rule["expr"] for name in ("recording.yml", "alerts.yml") for rule in rules_of(name)]
    for expression in (*asked, *expressions_of_dashboards()):
        names = names_in(expression)
        assert names, expression
        assert names <= known_names(), f"{names - known_names()} in {expression}"


def test_every_figure_that_a_service_has_is_on_the_dashboard_or_in_an_alert() -> None:
    asked = [rule["expr"] for name in ("recording.yml", "alerts.yml") for rule in rules_of(name)]
    names = {name for expression in (*asked, *expressions_of_dashboards()) for name in names_in(expression)}
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    unseen = {metric.name for metrics in declared().values() for metric in metrics} - names - stems
    assert not unseen
