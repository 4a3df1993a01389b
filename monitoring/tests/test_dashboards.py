"""The Grafana part, without a Grafana: what is provisioned, and that the dashboard is one by Grafana's own schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

GRAFANA = Path(__file__).resolve().parents[1] / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(path.read_text())
    return text


def lost(given: object, kept: object, path: str = "") -> list[str]:
    """What is in the first and not in the second."""
    if isinstance(given, dict):
        if not isinstance(kept, dict):
            return [path]
        return [each for key in given for each in lost(given[key], kept.get(key, ...), f"{path}.{key}")]
    if isinstance(given, list):
        if not isinstance(kept, list) or len(kept) != len(given):
            return [path]
        pairs = zip(given, kept, strict=True)
        return [each for index, (one, other) in enumerate(pairs) for each in lost(one, other, f"{path}[{index}]")]
    return [] if given == kept else [path]


@pytest.fixture(scope="module", autouse=True)
def schema() -> None:
    register_default_plugins()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_s_schema_knows_all_of_a_dashboard(path: Path) -> None:
    given = read(path)
    # What the schema does not know is not in what it makes of it
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
    assert lost(given, kept) == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_ask_the_datasource_that_is_provisioned(path: Path) -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    panels = [panel for panel in read(path)["panels"] if panel["type"] != "row"]
    assert panels
    for panel in panels:
        assert panel["datasource"] == wanted, panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["datasource"] == wanted for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_names_of_their_own_and_do_not_lie_over_each_other(path: Path) -> None:
    panels = read(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert all(0 <= x < 24 for x, _ in cells), panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboards_lie_where_grafana_is_told_to_look() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/enlight.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/srv/grafana/dashboards"  # as docker-compose.yml mounts them
    assert len({read(path)["uid"] for path in DASHBOARDS}) == len(DASHBOARDS) > 0
