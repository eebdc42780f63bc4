"""How tests talk to a sandbox over HTTP, and take its webhooks."""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tests.support.eventually import eventually
from tests.support.sandbox import NO_TLS, Sandbox
from workers.sandbox.catalogue import Catalogue

SCOPES = "media:transcription:write media:media:read"
SUBMIT = "/api/v2/media/transcriptions"
EVENTS = ["transcription.completed", "transcription.failed"]
CATALOGUE = Catalogue(1, 300)
IDS = list(CATALOGUE.media_ids())
GOOD = [media_id for media_id in IDS if (media := CATALOGUE.media(media_id)) and media.usable]
ODD = [media_id for media_id in IDS if (media := CATALOGUE.media(media_id)) and not media.usable]
MISSING = [media_id for media_id in IDS if CATALOGUE.media(media_id) is None]


class WebhookReceiver:
    """Takes webhooks; `answers` are the statuses of the next ones, 200 after that."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[int] = []
        receiver = self
        # What a server that had this port before is still sent does not belong here.
        own = f"/{uuid.uuid4().hex}"

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.startswith(f"{own}/"):
                    receiver.paths.append(self.path.removeprefix(own))
                    receiver.bodies.append(json.loads(body))
                    self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                else:
                    self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}{own}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def client(sandbox: Sandbox, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=sandbox.base_url, headers=headers, verify=NO_TLS, trust_env=False)


def mint(sandbox: Sandbox, **changes: str) -> httpx.Response:
    """A token answer; waits for the token limit of one a second."""
    form = {
        "grant_type": "client_credentials",
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "scope": SCOPES,
    }

    def answered() -> list[httpx.Response]:
        with client(sandbox, "none") as api:
            answer = api.post("/api/v2/oauth/token", data=form | changes)
        return [] if answer.status_code == 429 else [answer]

    return eventually(answered, 5, "a token answer")[0]


def body(media_id: str, receiver: WebhookReceiver | None = None, **changes: object) -> dict[str, Any]:
    webhooks = [{"uri": receiver.uri, "events": EVENTS}] if receiver else []
    settings = {"enableSpeakerIdentification": True}
    return {"mediaId": media_id, "languages": ["en-US"], "webhooks": webhooks, "settings": settings} | changes


def submit(api: httpx.Client, media_id: str, receiver: WebhookReceiver | None = None, **changes: object) -> str:
    answer = api.post(SUBMIT, json=body(media_id, receiver, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["transcriptionId"])


def finished(api: httpx.Client, transcription_id: str) -> dict[str, Any]:
    def status() -> dict[str, Any] | None:
        answer = api.get(f"{SUBMIT}/{transcription_id}").raise_for_status().json()
        return answer if answer["status"] != "processing" else None

    found = eventually(status, 5)
    assert found is not None
    return found
