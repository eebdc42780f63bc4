"""Events that share a transaction are each judged as if they had come alone, on both ledgers."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from tests.conftest import MakeResources
from tests.support.desk import Desk, completed
from tests.support.sandbox_calls import GOOD
from workers.ledger.tables import events as inbox
from workers.pipeline.events import Delivery, Verdict, read, receive_all

pytestmark = pytest.mark.both_ledgers

UNKNOWN_REF = "0" * 32


def kept(desk: Desk) -> list[tuple[str, str, bool]]:
    with desk.resources.ledger.read() as tx:
        rows = tx.execute(select(inbox.c.transcription_id, inbox.c.state, inbox.c.has_result).order_by(inbox.c.id))
        return [(row.transcription_id, row.state, row.has_result) for row in rows]


def test_each_has_the_receipt_that_it_would_have_alone(desk: Desk) -> None:
    accepted, other = desk.submitted(GOOD[0]), desk.submitted(GOOD[1])
    ref, theirs = desk.submissions(accepted)[0].callback_ref, desk.submissions(other)[0].callback_ref
    mine = str(accepted.transcription_id)
    bare = json.dumps({"eventType": "transcription.completed", "data": {"transcriptionId": mine}}).encode()
    progress = b'{"eventType": "transcription.progress"}'
    bodies = [
        (theirs, completed(str(other.transcription_id), "hello")),
        (ref, bare),
        (ref, progress),
        (ref, completed(mine, "hello")),
        (ref, completed(mine, "hello")),
        (UNKNOWN_REF, completed("t-unknown", "hello")),
        (ref, completed(mine, "hello", media_id=GOOD[1])),
        (theirs, completed(mine, "hello")),
    ]

    receipts = receive_all(desk.resources, [read(one, body) for one, body in bodies])

    assert [receipt.verdict for receipt in receipts] == [
        Verdict.STORED,
        Verdict.STORED,
        Verdict.IGNORED,
        Verdict.STORED,  # with a result, in the place of the one without
        Verdict.DUPLICATE,
        Verdict.UNMATCHED,
        Verdict.MISMATCHED,
        Verdict.REFUSED,
    ]
    assert sorted(kept(desk)) == sorted(
        [
            (str(other.transcription_id), "new", True),
            (mine, "new", True),
            ("t-unknown", "unmatched", True),
            (mine, "refused", True),
        ]
    )


def test_receivers_that_take_the_same_events_in_any_order_keep_each_once(
    desk: Desk, make_resources: MakeResources
) -> None:
    accepted = [desk.submitted(media_id) for media_id in GOOD[:8]]
    deliveries: list[Delivery] = [
        read(desk.submissions(one)[0].callback_ref, completed(str(one.transcription_id), "hello")) for one in accepted
    ]
    receivers = [make_resources() for _ in range(4)]

    def take(number: int) -> list[Verdict]:
        mine = deliveries if number % 2 else deliveries[::-1]
        return [receipt.verdict for receipt in receive_all(receivers[number % len(receivers)], mine)]

    with ThreadPoolExecutor(4) as pool:
        verdicts = [verdict for some in pool.map(take, range(12)) for verdict in some]

    assert verdicts.count(Verdict.STORED) == len(accepted)
    assert verdicts.count(Verdict.DUPLICATE) == 11 * len(accepted)
    with desk.resources.ledger.read() as tx:
        assert tx.execute(select(func.count()).select_from(inbox)).scalar_one() == len(accepted)


def test_none_of_them_is_kept_when_the_ledger_can_not_be_written(desk: Desk) -> None:
    accepted = desk.submitted(GOOD[0])
    ref, mine = desk.submissions(accepted)[0].callback_ref, str(accepted.transcription_id)
    with desk.resources.ledger.write() as tx:
        tx.exec_driver_sql("ALTER TABLE double_acceptances RENAME TO elsewhere")
    deliveries = [read(UNKNOWN_REF, completed("a-first", "hello")), read(ref, completed(mine, "hello"))]

    try:
        with pytest.raises(Exception, match=r"tables are not those|can't be used"):
            receive_all(desk.resources, deliveries)
    finally:
        with desk.resources.ledger.write() as tx:
            tx.exec_driver_sql("ALTER TABLE elsewhere RENAME TO double_acceptances")

    assert kept(desk) == []
