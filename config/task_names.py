"""The names that tasks are sent by: other programs rely on them."""

from typing import Final

ENQUEUE: Final = "retroscribe.enqueue"
VALIDATE: Final = "retroscribe.validate"
SUBMIT: Final = "retroscribe.submit"
TRACK: Final = "retroscribe.track"
INDEX: Final = "retroscribe.index"
POLL: Final = "retroscribe.poll"
PUMP: Final = "retroscribe.pump"
SWEEP: Final = "retroscribe.sweep"

ALL: Final = (ENQUEUE, VALIDATE, SUBMIT, TRACK, INDEX, POLL, PUMP, SWEEP)
