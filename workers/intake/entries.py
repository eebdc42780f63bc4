"""The contract of `retroscribe.enqueue`: what a message may hold, and a verdict on each of its entries."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workers.errors import InputError
from workers.intake.languages import MAX_LANGUAGES, normal_languages
from workers.intake.reasons import cut_json, printable, sentence, shown
from workers.model import Lane, TranscriptionRequest

MAX_ENTRIES: Final = 10_000
MAX_ID_LENGTH: Final = 128
RAW_LENGTH: Final = 200
MAX_NAME_LENGTH: Final = 64
_NAME: Final = r"^[a-z0-9._-]{1,64}$"


def _identifier(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not text in quotes")  # noqa: TRY004 pydantic takes ValueError only
    if not 1 <= len(value) <= MAX_ID_LENGTH:
        raise ValueError(f"{shown(value)} has {len(value)} characters, an id has 1 to {MAX_ID_LENGTH}")
    if " " in value or "/" in value or not value.isprintable():
        raise ValueError(f"{shown(value)} is not an id: printable characters without spaces or slashes")
    return value


def _languages(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(tag, str) for tag in value):
        raise ValueError(f"{shown(value)} is not a list of BCP 47 tags such as en-US")
    if not 1 <= len(value) <= MAX_LANGUAGES:
        raise ValueError(f"{shown(value)} has {len(value)} tags, a request has 1 to {MAX_LANGUAGES}")
    try:
        return normal_languages(tuple(value))
    except ValueError as error:
        raise ValueError(f"{shown(error.args[0])} is not a BCP 47 tag such as en-US") from None


Identifier = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\s/]+$"), BeforeValidator(_identifier)
]
Languages = Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_LANGUAGES), BeforeValidator(_languages)]


class Options(BaseModel):
    """What a recording may ask for; what is null or left out falls back to the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    languages: Languages | None = Field(
        None, description="BCP 47 tags, the first is primary, the rest are tried in order; duplicates are dropped."
    )
    redaction_policy_id: Identifier | None = Field(None, description="The redaction policy to apply.")
    speaker_identification: bool | None = Field(None, description="Whether speakers are told apart.")


class Entry(Options):
    """One recording asked for."""

    media_id: Identifier = Field(description="The recording's media id: printable characters, no spaces or slashes.")


class EnqueueMessage(BaseModel):
    """The keyword arguments of the task `retroscribe.enqueue`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    backfill: str = Field(pattern=_NAME, description="Name of the set of recordings; made when it is new.")
    lane: Lane = Field(Lane.BACKFILL, strict=False, description="`live` when someone waits for it.")
    defaults: Options = Field(Options(), description="What holds for entries that say nothing else.")
    # Entries are checked one by one by `read_entries`, so that a bad one spoils no other.
    recordings: list[Any] = Field(max_length=MAX_ENTRIES, description="The recordings asked for.")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for recordings that say nothing else; raises InputError for a value that can't be used."""

    languages: tuple[str, ...]
    redaction_policy_id: str | None = None
    speaker_identification: bool = True

    def __post_init__(self) -> None:
        checked = read_options({name: getattr(self, name) for name in Options.model_fields})
        object.__setattr__(self, "languages", checked.languages)

    def overridden_by(self, options: Options) -> "Defaults":
        """These defaults with what the options name in their place."""
        return Defaults(*_merged(options, self))

    def as_options(self) -> dict[str, Any]:
        """What a backfill keeps of the options that it was made with: later lists must come with the same."""
        return {**asdict(self), "languages": list(self.languages)}


@dataclass(frozen=True, slots=True)
class Accepted:
    """An entry that can be used; `index` is its place in the message, from 0."""

    index: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that can't be used; `raw` is at most 200 characters of it, `media_id` None when it has no such text."""

    index: int
    media_id: str | None
    raw: str
    reason: str


def read_message(message: Mapping[str, object]) -> EnqueueMessage:
    """The message without a look at its entries; raises InputError when its frame can't be used."""
    try:
        return EnqueueMessage.model_validate(message)
    except ValidationError as error:
        raise InputError(f"The enqueue message can't be used: {sentence(error, EnqueueMessage)}.") from None


def read_options(values: Mapping[str, object]) -> Options:
    """Options from plain values, as a command line gives them; raises InputError naming the field."""
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{sentence(error, Options)}.") from None


def read_entry(values: object) -> Entry | str:
    """The entry, or the reason why it can't be used."""
    try:
        return Entry.model_validate(values)
    except ValidationError as error:
        return sentence(error, Entry)


def read_entries(message: EnqueueMessage) -> Iterator[Accepted | Refused]:
    """A verdict on each entry, in order; a bad one spoils no other."""
    for index, values in enumerate(message.recordings):
        entry = read_entry(values)
        if isinstance(entry, Entry):
            yield Accepted(index, entry)
        else:
            media_id = values.get("media_id") if isinstance(values, dict) else None
            named = printable(media_id, MAX_ID_LENGTH) if isinstance(media_id, str) else None
            yield Refused(index, named, cut_json(values, RAW_LENGTH), entry)


def resolve(entry: Entry, defaults: Defaults) -> TranscriptionRequest:
    """The entry with the defaults put in for what it leaves out."""
    return TranscriptionRequest(entry.media_id, *_merged(entry, defaults))


def check_backfill_name(name: str) -> str:
    """The name; raises InputError when a backfill can't be called that."""
    if not re.fullmatch(_NAME.strip("^$"), name):
        raise InputError(
            f"The backfill name {shown(name)} can't be used: give 1 to 64 characters of a-z, 0-9, '.', '_' and '-'."
        )
    return name


def message_schema() -> dict[str, Any]:
    """The JSON schema of the message."""
    schema = EnqueueMessage.model_json_schema()
    schema["$defs"]["Entry"] = Entry.model_json_schema()
    schema["properties"]["recordings"]["items"] = {"$ref": "#/$defs/Entry"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _merged(options: Options, defaults: Defaults) -> tuple[tuple[str, ...], str | None, bool]:
    speakers = options.speaker_identification
    return (
        options.languages or defaults.languages,
        options.redaction_policy_id or defaults.redaction_policy_id,
        defaults.speaker_identification if speakers is None else speakers,
    )
