"""What every search index does, whichever engine is behind it."""

from collections.abc import Sequence
from typing import Protocol

from workers.search.documents import Document
from workers.search.query import Query
from workers.search.results import Results


class SearchIndex(Protocol):
    """The documents, one a recording, kept by ref; safe to use from any thread and from many processes.

    Every method raises SearchUnavailable when the engine can't be reached, is overloaded or can't do it now: the
    caller may try again, for each is safe to repeat.
    """

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores the documents; when it returns, they outlive the death of any process.

        A version older than the stored one changes nothing; the same one replaces, or is equal already. Raises
        DocumentsNotStored when only some could be stored; after another SearchUnavailable each may be or not.
        """

    def delete(self, ref: str) -> None:
        """Removes the document, if there is one. A later `upsert` brings it back, unless something else forbids it."""

    def search(self, query: Query) -> Results:
        """One page of what the query finds."""

    def get(self, media_id: str) -> Document | None:
        """The document of a media id, the newest if it was transcribed in several ways."""

    def count(self) -> int:
        """How many documents there are."""

    def versions(self, after_ref: str | None, most: int) -> list[tuple[str, int]]:
        """Ref and version of the documents whose refs follow `after_ref`, in the order of their refs, at most so many.

        None begins with the first; a page of fewer than `most` is the last.
        """

    def purge(self) -> str | None:
        """Removes what deleted documents have left in the files; a sentence about what stays, if something does.

        May take minutes when the index is large; writers may have to wait meanwhile.
        """

    def rebuild(self) -> "Rebuild":
        """Begins a new index beside this one, in place of one that somebody else has begun and not finished."""

    def check(self) -> None:
        """Says nothing when the index is in order; may take minutes. Raises SearchUnavailable with what is wrong."""

    def close(self) -> None:
        """Closes what is open; a later call opens it anew."""


class Rebuild(Protocol):
    """A new index that is filled while the present one answers; works also when the present one can't be used.

    Each `upsert` and `delete` of the present index that begins from now on, in whichever process, goes to both. So
    nothing is lost when the caller fills in whatever is to be found at the moment, and writers first put down where
    the caller looks what they are about to write. Only a deletion can be overtaken by the fill: look again after it.
    """

    def upsert(self, documents: Sequence[Document]) -> None:
        """Stores documents in the new index only."""

    def delete(self, ref: str) -> None:
        """Removes a document from the new index only."""

    def finish(self) -> None:
        """Has every process search and write the new index from now on, and removes the old one."""

    def abandon(self) -> None:
        """Removes the new index; the present one goes on alone."""
