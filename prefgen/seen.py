"""Which ids a file has had already: on disk, so that a hundred million fit."""

from __future__ import annotations

import hashlib
import sqlite3


class Seen:
    """`first(name, line)`: the line a name stood on before, None if this is its first."""

    def __init__(self) -> None:
        # A database without a name is SQLite's temporary file: it spills to disk and goes with us. A reader
        # that is left in the middle may be closed by the garbage collector of any thread.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (name BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def first(self, name: str, line: int) -> int | None:
        key = hashlib.blake2b(name.encode(), digest_size=16).digest()
        if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line)).rowcount:
            return None
        found: int = self._db.execute("SELECT line FROM seen WHERE name = ?", (key,)).fetchone()[0]
        return found

    def close(self) -> None:
        self._db.close()
