"""What happened to a recording, line by line: its changes of state, its submissions and its events, oldest first."""

import re
from typing import Any, Final

from rich.text import Text

from workers.ledger import submissions
from workers.ledger.events import Listed
from workers.ledger.submissions import Submission
from workers.model import Reason, State
from workers.pipeline.explain import Explained

_TASK_ID: Final = re.compile(r"(?:(pump|sweep):)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_OUTCOMES: Final = {
    submissions.ACCEPTED: "was accepted",
    submissions.REFUSED: "was refused",
    submissions.NOT_SENT: "was surely not accepted",
    submissions.UNKNOWN: "may have been accepted, nobody knows",
}
#: Which task works on a recording in that state; the history has the task's id only.
_STEPS: Final = {
    State.QUEUED: "validate",
    State.VALIDATED: "submit",
    State.SUBMITTING: "submit",
    State.UNKNOWN: "submit",
    State.TRANSCRIBING: "index",
    State.COMPLETED: "index",
}


def past(one: Explained) -> list[tuple[float, Text]]:
    """When (Unix seconds) and what, oldest first."""
    recording = one.recording
    lines = [(recording.created_at, Text(f"asked for, in lane {recording.lane}"))]
    lines += [line for sent in one.submissions for line in _submission(sent)]
    for event in one.events:
        text = Text.assemble(f"event {event.type}: ", (event.state, "bold"))
        said = f"transcription {event.transcription_id}" + (", without a result" if _lacks_result(event) else "")
        lines.append((event.received_at, _with(text, said, event.detail)))
    lines += [(row["at"], _transition(row)) for row in one.history]
    return sorted(lines, key=lambda line: line[0])


def plain(text: str) -> Text:
    """The text as it is, but for signs that would steer the terminal."""
    one_line = " ".join(text.split())
    return Text("".join(sign if sign.isprintable() else "\ufffd" for sign in one_line))


def _lacks_result(event: Listed) -> bool:
    return not event.has_result and event.type.endswith(".completed")


def _submission(sent: Submission) -> list[tuple[float, Text]]:
    again = f" again, {sent.sends} times in all" if sent.sends > 1 else ""
    lines = [(sent.sent_at, _with(Text(f"submission {sent.number} sent{again}"), f"callback ref {sent.callback_ref}"))]
    if sent.settled_at is not None and sent.outcome in _OUTCOMES:
        facts = [
            f"HTTP {sent.http_status}" if sent.http_status else "",
            f"transcription {sent.transcription_id}" if sent.transcription_id else "",
            f"correlation id {sent.correlation_id}" if sent.correlation_id else "",
        ]
        text = Text(f"submission {sent.number} {_OUTCOMES[sent.outcome]}")
        lines.append((sent.settled_at, _with(text, ", ".join(filter(None, facts)))))
    if sent.failed_at is not None:
        lines.append((sent.failed_at, Text(f"the API says that transcription {sent.transcription_id} failed")))
    return lines


def _transition(row: Any) -> Text:
    before, after = row["from_state"], row["to_state"]
    change = f"still {after}" if before == after else f"{before} -> {after}"
    text = Text.assemble((change, "bold"), f"  by {_whom(row)}")
    return _with(text, row["reason"], row["detail"])


def _whom(row: Any) -> str:
    """Who moved it, in words: a task by what it does, and by its id, which Flower finds."""
    task = _TASK_ID.fullmatch(row["by"])
    if task is None:
        return str(row["by"])
    beat, task_id = task.groups()
    if row["reason"] == Reason.WEBHOOK:
        step = "webhook, applied by"
    elif row["reason"] == Reason.OVERDUE:
        step = "poll"
    else:
        step = beat or _STEPS.get(row["from_state"], "")
    return f"{step} task {task_id}".strip()


def _with(text: Text, *details: str | None) -> Text:
    """The line with what there is to say about it below."""
    said = [plain(detail) for detail in details if detail]
    if said:
        text.append("\n")
        text.append_text(Text(": ").join(said))
        text.stylize("dim", len(text.plain.split("\n", 1)[0]) + 1)
    return text
