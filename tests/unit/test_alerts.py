"""Alert rules, dashboard and runbook: each names only what there is, and each alert has its page of instructions."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers.exporter import families
from workers.genesys.tokens import TokenTimes
from workers.ledger.gauges import OpenBackfill
from workers.limits.calls import BEYOND, Calls
from workers.limits.limiter import LimiterState
from workers.metrics import REGISTRY
from workers.model import CallClass, State
from workers.pipeline.fleet import ApiFigures, BrokerFigures, LedgerFigures

HOUSE = Path(__file__).parents[2]
RULES = HOUSE / "deploy/prometheus/alerts.yml"
PLAYED = RULES.with_name("alerts_test.yml")
DASHBOARD = HOUSE / "deploy/grafana/retroscribe.json"
RUNBOOK = HOUSE / "docs/runbook.md"
OPERATIONS = HOUSE / "docs/operations.md"


def fleet_metrics() -> Iterator[families.Metric]:
    limit = LimiterState(CallClass.SUBMIT, 10, 9.9, 9.9, 8.0, 1.0, 0.0, None, probing=False, failures=0,
                         rejected_last_minute=0, granted_last_minute=0, granted_per_second=0)  # fmt: skip
    backfill = OpenBackfill(1, "q3", "running", None, {State.PENDING: 1})
    yield from families.of_ledger(
        LedgerFigures([backfill], {}, 1, {"new": 0}, None, 0, is_halted=False, expects_webhooks=True)
    )
    calls = Calls({"202": 1}, {"1": 1, BEYOND: 0}, 1.0)
    yield from families.of_api(ApiFigures({CallClass.SUBMIT: limit}, {CallClass.SUBMIT: calls}, TokenTimes(1, 1)))
    yield from families.of_broker(BrokerFigures({"q": 0}, {"q": 1}))


@cache
def exported() -> dict[str, set[str]]:
    """The labels of each name that a page of an exporter or a receiver may show."""
    names = {"retroscribe_source_up": {"source"}, "retroscribe_source_seconds": {"source"}}
    for family in (*fleet_metrics(), *REGISTRY.collect()):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
        if family.type == "gauge":
            names.setdefault(family.name, set())
        if family.type == "counter":  # of a label's values that have not come yet
            names.setdefault(f"{family.name}_total", set())
    return names


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.mark.parametrize("expression", sorted({*dashboard(), *(rule["expr"] for rule in alerts())}))
def test_every_metric_and_label_of_dashboard_and_rules_is_exported(expression: str) -> None:
    used = re.findall(r"(retroscribe_\w+)(?:\{([^}]*)\})?", expression)
    assert used
    for name, selector in used:
        assert name in exported(), name
        for label in re.findall(r'(\w+)\s*[=!]~?\s*"', selector):
            assert label in exported()[name] or not exported()[name], (name, label)


def test_every_metric_of_the_fleet_is_on_the_dashboard_and_in_the_docs() -> None:
    shown, told = " ".join(dashboard()), OPERATIONS.read_text() + (HOUSE / "docs/receiver.md").read_text()
    names = {re.sub("_(total|bucket|count|sum)$", "", name) for name in exported() if name.startswith("retroscribe_")}

    assert {name for name in names if name not in shown} <= {
        "retroscribe_accepted_twice",  # these only matter when an alert says so
        "retroscribe_webhooks_expected",
        "retroscribe_receiver_stored_together",
    }
    assert {name for name in names if name not in told} == set()


def test_every_alert_has_its_instructions_and_every_instruction_its_alert() -> None:
    headings = re.findall(r"^## (Retroscribe\w+)$", RUNBOOK.read_text(), re.MULTILINE)

    assert sorted(headings) == sorted(rule["alert"] for rule in alerts())
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        page = RUNBOOK.read_text().partition(f"## {rule['alert']}\n")[2].partition("\n## ")[0]
        assert all(f"**{part}**" in page for part in ("Means", "Look at", "Do"))
        assert f"`{rule['labels']['severity']}`" in page.replace("\n", " ")


def test_every_alert_is_played_through_firing_and_silent() -> None:
    played = {test["name"].partition(":")[0] for test in yaml.safe_load(PLAYED.read_text())["tests"]}

    assert played == {f"{rule['alert']} {what}" for rule in alerts() for what in ("fires", "is silent")}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_plays_every_alert_through() -> None:
    command = ["promtool", "test", "rules", PLAYED.name]
    said = subprocess.run(command, cwd=PLAYED.parent, capture_output=True, text=True, check=False)

    assert said.returncode == 0, said.stdout + said.stderr
