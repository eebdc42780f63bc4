"""The examples of docs/messages.md, read out of it and run as other apps run them, over a real broker and worker."""

import ast
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import func, select

from config import queues
from tests.conftest import free_port
from tests.support.broker import Broker
from tests.support.command import HOUSE, bare_environment
from tests.support.eventually import eventually
from tests.support.fleet import Fleet
from tests.support.sandbox import NO_TLS, Sandbox
from workers.ledger.tables import recordings

DOCUMENT: Final = (HOUSE / "docs" / "messages.md").read_text(encoding="utf-8")
PASSWORD: Final = "producer:PASSWORD"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


def after(heading: str, language: str) -> list[str]:
    """The blocks of that language between this heading and the next."""
    section = DOCUMENT.split(f"\n{heading}\n", 1)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", re.split(r"\n##+ ", section)[0], re.DOTALL | re.MULTILINE)


#: The modules of the examples, by the name that their first line gives them.
MODULES: Final = {
    named[1]: block for block in blocks("python") if (named := re.match(r"# (\w+\.py)\n", block)) is not None
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, shared_sandbox: Sandbox) -> Iterator[Fleet]:
    """The workers that take in, and nothing else."""
    folder = tmp_path_factory.mktemp("intake")
    broker = Broker(folder).start()
    started = Fleet(folder, shared_sandbox, broker, parts=("index", "control"))
    yield started
    started.close()
    broker.close()


class OtherApp:
    """A folder with the modules of the examples, in which programs run that know nothing of ours."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self._folder = folder
        self._environment = bare_environment(RETROSCRIBE_BROKER_URL=f"redis+socket://{broker.socket}")
        del self._environment["PYTHONPATH"]
        for name, text in MODULES.items():
            (folder / name).write_text(text, encoding="utf-8")

    def run(self, program: str) -> str:
        """What the program prints; it has a minute."""
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture
def other_app(tmp_path: Path, fleet: Fleet) -> OtherApp:
    return OtherApp(tmp_path, fleet.broker)


def stored(fleet: Fleet) -> int:
    with fleet.resources.ledger.read() as tx:
        return int(tx.execute(select(func.count()).select_from(recordings)).scalar_one())


def test_the_first_example_prints_the_answer_that_is_shown_below_it(other_app: OtherApp) -> None:
    shown = blocks("python")[1]
    for _ in range(2):  # sent twice, by whatever mishap
        assert ast.literal_eval(other_app.run("import ask")) == ast.literal_eval(shown)


def test_a_message_that_is_too_long_is_refused_with_the_sentence_that_is_shown(
    other_app: OtherApp, fleet: Fleet
) -> None:
    before = stored(fleet)
    says = other_app.run(
        """
from ask import app

def outcome(**message):
    sent = app.send_task("retroscribe.enqueue", queue="retroscribe.intake", kwargs=message)
    try:
        return sent.get(timeout=30)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

print(outcome(backfill="2026-q4", recordings=[{"media_id": f"call-{n}"} for n in range(10_001)]))
print(outcome(backfill="2026 Q3", recordings=[]))
"""
    )
    _, too_long, bad_name = says.splitlines()
    assert too_long in DOCUMENT
    assert bad_name in DOCUMENT
    assert stored(fleet) - before <= 2  # what the import of the first example asks for


WEB_APP: Final = """
import os, time
from fastapi.testclient import TestClient
from fastapi_app import api

client = TestClient(api)
"""


def test_a_web_app_asks_in_a_request_and_reads_the_answer_in_another(other_app: OtherApp) -> None:
    says = other_app.run(
        WEB_APP
        + """
asked = client.post("/calls/a-call-on-the-web/transcript")
found = {"answer": None}
while found["answer"] is None:
    time.sleep(0.1)
    found = client.get("/transcript-requests/" + asked.json()["task_id"]).json()
print(asked.status_code, found["answer"])
"""
    )
    assert says == "202 {'backfill': 'calls', 'accepted': 1, 'duplicates': 0, 'rejected': []}\n"


def test_a_refused_message_is_an_error_for_the_web_app(other_app: OtherApp) -> None:
    says = other_app.run(
        """
import time
from transcripts import answer, ask

task_id = ask([], "2026 Q3")
while (found := answer(task_id)) is None:
    time.sleep(0.1)
print(found["error"])
"""
    )
    assert f"InputError: {says}" in DOCUMENT


def test_a_long_list_goes_out_in_messages_and_counts_once_when_it_is_sent_again(
    other_app: OtherApp, fleet: Fleet
) -> None:
    before = stored(fleet)
    says = other_app.run(
        """
import time
from million import ask_for_all
from transcripts import answer

for _ in range(2):
    task_ids = ask_for_all((f"one-of-many-{number}" for number in range(12_345)), "many")
    while None in (answers := [answer(task_id) for task_id in task_ids]):
        time.sleep(0.1)
    print([(one["accepted"], one["duplicates"]) for one in answers])
"""
    )
    assert says == "[(10000, 0), (2345, 0)]\n" * 2
    assert stored(fleet) - before == 12_345


def test_an_urgent_message_does_not_wait_behind_long_lists(other_app: OtherApp, fleet: Fleet) -> None:
    fleet.signal(signal.SIGSTOP, "index")  # as if it had a long list before it
    try:
        says = other_app.run(
            """
import time
from transcripts import answer, ask

long = ask([{"media_id": f"not-urgent-{number}"} for number in range(1000)], "long")
urgent = ask([{"media_id": "urgent"}], "urgent", lane="live")
while (found := answer(urgent)) is None:
    time.sleep(0.1)
print(found["accepted"], answer(long))
"""
        )
    finally:
        fleet.signal(signal.SIGCONT, "index")
    assert says == "1 None\n"


def test_the_django_example_is_python_and_asks_as_the_others_do() -> None:
    view = ast.parse(MODULES["views.py"])
    names = {alias.name for node in view.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    module = {node.name for node in ast.parse(MODULES["transcripts.py"]).body if isinstance(node, ast.FunctionDef)}
    assert "ask" in names & module


def test_a_message_pushed_to_redis_is_taken_in_and_answered(fleet: Fleet) -> None:
    message, answer = (json.loads(block) for block in after("### Redis", "json"))
    with fleet.broker.client() as client:
        client.lpush(queues.INTAKE, json.dumps(message))
        key = f"celery-task-meta-{message['headers']['id']}"
        found = json.loads(eventually(lambda: client.get(key), timeout=30, what="the answer"))
    assert found["status"] == answer["status"]
    # The first example asks for the same one: whichever came first, it was paid for once.
    result = found["result"]
    assert {**result, "accepted": result["accepted"] + result["duplicates"], "duplicates": 0} == answer["result"]


@contextmanager
def running(fleet: Fleet, folder: Path, port: int, *arguments: str, **environment: str) -> Iterator[httpx.Client]:
    """A Flower over the fleet's broker."""
    settings = fleet.resources.settings
    wanted = {"RETROSCRIBE_HOME": str(settings.home), "RETROSCRIBE_REDIS_URL": str(settings.redis_url)}
    with (folder / "flower.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=HOUSE,
            env=bare_environment(**wanted, **environment),
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, trust_env=False) as http:
            eventually(lambda: answers(http), timeout=60, what="Flower")
            yield http
    finally:
        process.kill()
        process.wait()


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthcheck").is_success
    except httpx.HTTPError:
        return False


def shown() -> tuple[str, str, dict[str, Any]]:
    """How the document starts a Flower, and path and body of what it sends to it."""
    start, requests = after("### Flower's HTTP API", "")
    (path,) = re.findall(r"5556(/api/task/send-task/\S+)", requests)
    (body,) = re.findall(r"-d '(.*?)'", requests, re.DOTALL)
    return start, path, json.loads(body)


@pytest.mark.parametrize(("password", "refused"), [("", 401), (PASSWORD, 403)])
def test_the_flower_that_comes_with_us_sends_nothing(fleet: Fleet, tmp_path: Path, password: str, refused: int) -> None:
    _, path, body = shown()
    port = free_port()
    environment = {"RETROSCRIBE_FLOWER_PORT": str(port), **({"FLOWER_BASIC_AUTH": password} if password else {})}
    with running(fleet, tmp_path, port, "workers.cli.main", "flower", **environment) as flower:
        auth = ("producer", "PASSWORD") if password else None
        assert flower.post(path, json=body, auth=auth).status_code == refused


def test_a_flower_with_a_password_beside_it_sends_and_gives_the_answer(fleet: Fleet, tmp_path: Path) -> None:
    start, path, body = shown()
    body["kwargs"]["recordings"] = [{"media_id": "by-flower"}]
    port = free_port()
    with running(fleet, tmp_path, port, *shlex.split(start.replace("5556", str(port)))) as flower:
        flower.auth = ("producer", "PASSWORD")
        sent = flower.post(path, json=body).raise_for_status().json()

        def result() -> dict[str, Any] | None:
            found: dict[str, Any] = flower.get(f"/api/task/result/{sent['task-id']}").raise_for_status().json()
            return found if found["state"] == "SUCCESS" else None

        found = eventually(result, timeout=30, what="the answer")
        assert found is not None
        assert found["result"] == {"backfill": "2026-q3", "accepted": 1, "duplicates": 0, "rejected": []}


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "away"])
@pytest.mark.parametrize("known", [True, False], ids=["connected", "not connected"])
def test_a_web_app_answers_although_the_broker_does_not(
    other_app: OtherApp, fleet: Fleet, number: signal.Signals, known: bool
) -> None:
    before = 'client.post("/calls/one/transcript"); client.get("/transcript-requests/0")' if known else ""
    assert fleet.broker.process is not None
    try:
        says = other_app.run(
            f"""{WEB_APP}
{before}
os.kill({fleet.broker.process.pid}, {number.value})
print(client.post("/calls/another/transcript").status_code)
print(client.get("/transcript-requests/3f1b0c52-8c56-4d0b-9c29-0d4f6a4a9f7e").status_code)
"""
        )
    finally:
        fleet.broker.thaw()
        if number == signal.SIGKILL:
            fleet.broker.kill()
            fleet.broker.start()
    assert says.split() == ["503", "503"]
