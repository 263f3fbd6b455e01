"""What people answered: one SQLite file, which holds the pairs too.

An answer is on disk before the page that follows it is sent (WAL, synchronous = FULL): kill -9 and a power
cut lose none. An answer undone is marked so and stays. Of each pair one answer of a person counts at a time;
the database itself holds that, so tabs, double clicks and two servers on one file cannot label twice.
"""

from __future__ import annotations

import json
import random
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

from pipelines.labelling.item import ADJUDICATOR, Answer, Item
from prefgen.errors import RunDirectoryError
from prefgen.judgment import Verdict
from prefgen.messages import as_dicts, content_hash, parse_messages

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    prompt TEXT NOT NULL, a TEXT NOT NULL, b TEXT NOT NULL,
    margin REAL, confidence REAL, columns TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL REFERENCES items (id), annotator TEXT NOT NULL,
    answer TEXT NOT NULL CHECK (answer IN ('a', 'b', 'tie', 'skip')), reason TEXT NOT NULL,
    at REAL, seconds REAL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON answers (item, annotator) WHERE undone = 0;
CREATE TABLE IF NOT EXISTS hands (annotator TEXT PRIMARY KEY, item TEXT NOT NULL, at REAL NOT NULL);
"""
_TABLES = {"meta", "items", "answers", "hands"}
_APPLICATION, _VERSION = 0x70666C62, 1
"""By which a file says that it is a store ("pflb"), and of which make."""
_OPEN = """
SELECT id, votes FROM (
    SELECT id, (SELECT count(*) FROM answers WHERE item = id AND undone = 0 AND answer != 'skip'
                AND annotator != :adjudicator) AS votes
    FROM items WHERE NOT EXISTS (SELECT 1 FROM answers WHERE item = id AND annotator = :who AND undone = 0)
) WHERE votes < :overlap
"""
_DISPUTED = """
SELECT item AS id, 0 AS votes FROM answers WHERE undone = 0 AND answer != 'skip' AND annotator != :adjudicator
    AND NOT EXISTS (SELECT 1 FROM answers AS own
                    WHERE own.item = answers.item AND own.annotator = :adjudicator AND own.undone = 0)
GROUP BY item HAVING count(DISTINCT answer) > 1
"""
_HELD = 600.0
"""Seconds for which a pair that somebody has before them is given to nobody else."""
_RECENT = 20
"""Answers from which the time one takes is estimated."""


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that counts. `seconds`: from the page to the answer, None where the file told it."""

    item: str
    annotator: str
    answer: Answer
    reason: str
    seconds: float | None

    @property
    def label(self) -> Verdict | None:
        """None for a skip, which is no label."""
        return None if self.answer == "skip" else self.answer


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one annotator. `seconds`: what is left, at their pace; None until there is one."""

    labelled: int
    skipped: int
    left: int
    seconds: float | None


class Store:
    """`overlap`: annotators for each pair. `clock`: the time in seconds."""

    def __init__(self, path: Path, overlap: int = 1, clock: Callable[[], float] = time.time) -> None:
        self._path, self.overlap, self._clock = path, overlap, clock
        self._orders: dict[str, dict[str, int]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.row_factory = sqlite3.Row
            self._claim()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise RunDirectoryError(
                f"{path}: cannot be used as the store of answers ({error}); name another --out"
            ) from error

    def _claim(self) -> None:
        """Raises sqlite3.Error, with nothing changed, for a database of another program or later version."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        names = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in names if not name.startswith("sqlite_")}
        if application != _APPLICATION and tables not in (set(), _TABLES):
            raise sqlite3.DatabaseError("it is a database of another program")
        if version > _VERSION:
            raise sqlite3.DatabaseError("a later version of prefgen wrote it, which has to read it too")
        if application != _APPLICATION:
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raises RunDirectoryError in the place of what SQLite says."""
        self.close()
        if isinstance(error, sqlite3.Error):
            raise RunDirectoryError(
                f"{self._path}: the store of answers failed ({error}); free disk space if it is full, else "
                "restore it from a copy, or name another --out"
            ) from error

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # A full disk may have ended it already.
                self._db.execute("ROLLBACK")
            raise

    def meta(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def sides(self) -> str:
        """By what it is drawn which response is shown on which side (`swapped`): a secret of the store, since
        the seed and a pair's id would tell whoever knows this program which one the judge preferred."""
        with self._write():
            drawn = json.dumps(secrets.token_hex(16))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('sides', ?)", (drawn,))
        return str(self.meta("sides"))

    def add(
        self,
        items: Iterable[Item],
        votes: Mapping[str, Iterable[tuple[str, Verdict]]],
        meta: Mapping[str, object],
    ) -> None:
        """Pairs, the labels they have already, and what they were drawn by: all or nothing."""
        with self._write():
            for item in items:
                self._db.execute(
                    "INSERT OR IGNORE INTO items (id, prompt, a, b, margin, confidence, columns) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        item.id,
                        json.dumps(as_dicts(item.prompt)),
                        item.a,
                        item.b,
                        item.margin,
                        item.confidence,
                        json.dumps(dict(item.columns), default=str),
                    ),
                )
                for annotator, label in votes.get(item.id, ()):
                    self._insert(item.id, annotator, label, "", None, None)
            for name, value in meta.items():
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def _insert(
        self, item: str, annotator: str, answer: Answer, reason: str, at: float | None, seconds: float | None
    ) -> bool:
        told = self._db.execute(
            "INSERT INTO answers (item, annotator, answer, reason, at, seconds) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            (item, annotator, answer, reason, at, seconds),
        )
        return told.rowcount == 1

    def items(self, *, labelled: bool = False) -> Iterator[Item]:
        """In the order they were drawn; all, or those with a label."""
        which = (
            "WHERE id IN (SELECT item FROM answers WHERE undone = 0 AND answer != 'skip')" if labelled else ""
        )
        yield from map(_item, self._db.execute(f"SELECT * FROM items {which} ORDER BY place"))

    def item(self, name: str) -> Item | None:
        row = self._db.execute("SELECT * FROM items WHERE id = ?", (name,)).fetchone()
        return None if row is None else _item(row)

    def ids(self) -> list[str]:
        return [row["id"] for row in self._db.execute("SELECT id FROM items ORDER BY place")]

    def next(self, annotator: str) -> Item | None:
        """The pair they have before them, or the next one, which is theirs for ten minutes. Pairs that others
        labelled come first, so that each gets all its labels. None: nothing is left, or others have it."""
        now = self._clock()
        with self._write():
            held = self._db.execute(
                "SELECT annotator, item, at FROM hands WHERE annotator = ? OR at > ?",
                (annotator, now - _HELD),
            ).fetchall()
            own = next((row for row in held if row["annotator"] == annotator), None)
            taken = Counter(row["item"] for row in held if row["annotator"] != annotator)
            left = self._left(annotator)
            free = [name for name, votes in left.items() if votes + taken[name] < self.overlap]
            if own is not None and own["item"] in left and own["at"] > now - _HELD:
                return self.item(own["item"])
            if own is not None and own["item"] in free:
                name = own["item"]
            elif free:
                order = self._order(annotator)
                name = min(free, key=lambda name: (-left[name], order[name]))
            else:
                return None
            self._hand(annotator, name, now)
        return self.item(name)

    def _left(self, annotator: str) -> dict[str, int]:
        """What an annotator may still be asked, with the labels it has."""
        query = _DISPUTED if annotator == ADJUDICATOR else _OPEN
        values = {"who": annotator, "adjudicator": ADJUDICATOR, "overlap": self.overlap}
        return {row["id"]: row["votes"] for row in self._db.execute(query, values)}

    def _order(self, annotator: str) -> dict[str, int]:
        """Each annotator has an order of their own, the same each time."""
        if annotator not in self._orders:
            names = self.ids()
            random.Random(content_hash([self.meta("seed"), "order", annotator])).shuffle(names)
            self._orders[annotator] = {name: place for place, name in enumerate(names)}
        return self._orders[annotator]

    def _hand(self, annotator: str, item: str, now: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO hands VALUES (?, ?, ?)", (annotator, item, now))

    def answer(self, annotator: str, item: str, answer: Answer, reason: str = "") -> bool:
        """Keeps an answer in terms of the pair's own a and b. False: they had answered, and that stays."""
        now = self._clock()
        with self._write():
            hand = self._db.execute(
                "DELETE FROM hands WHERE annotator = ? AND item = ? RETURNING at", (annotator, item)
            ).fetchone()
            seconds = None if hand is None else now - hand["at"]
            return self._insert(item, annotator, answer, reason, now, seconds)

    def last(self, annotator: str) -> int | None:
        """The number of their latest answer that counts, for `undo`."""
        row = self._db.execute(
            "SELECT max(seq) AS seq FROM answers WHERE annotator = ? AND undone = 0 AND at IS NOT NULL",
            (annotator,),
        ).fetchone()
        return cast("int | None", row["seq"])

    def undo(self, annotator: str, seq: int) -> bool:
        """Takes back their latest answer and puts its pair before them. False: it is not the latest any more,
        as another tab went on or took it back already."""
        with self._write():
            if self.last(annotator) != seq:
                return False
            row = self._db.execute(
                "UPDATE answers SET undone = 1 WHERE seq = ? RETURNING item", (seq,)
            ).fetchone()
            self._hand(annotator, row["item"], self._clock())
        return True

    def before(self, annotator: str, item: str) -> Given | None:
        """What they last answered and took back, to be shown when the pair is before them again."""
        row = self._db.execute(
            "SELECT * FROM answers WHERE annotator = ? AND item = ? AND undone = 1 ORDER BY seq DESC",
            (annotator, item),
        ).fetchone()
        return None if row is None else _given(row)

    def unskip(self, annotator: str) -> None:
        """Their skipped pairs are asked again."""
        with self._write():
            self._db.execute(
                "UPDATE answers SET undone = 1 WHERE annotator = ? AND answer = 'skip' AND undone = 0",
                (annotator,),
            )

    def given(self) -> list[Given]:
        """Every answer that counts, in the order they came."""
        return self._given()

    def of(self, item: str) -> list[Given]:
        """The labels of a pair, but for the adjudicator's."""
        return self._given("AND item = ? AND answer != 'skip' AND annotator != ?", item, ADJUDICATOR)

    def _given(self, which: str = "", *values: str) -> list[Given]:
        query = f"SELECT * FROM answers WHERE undone = 0 {which} ORDER BY seq"
        return [_given(row) for row in self._db.execute(query, values)]

    def progress(self, annotator: str) -> Progress:
        counts = self._db.execute(
            "SELECT count(*) FILTER (WHERE answer != 'skip') AS labelled, "
            "count(*) FILTER (WHERE answer = 'skip') AS skipped "
            "FROM answers WHERE annotator = ? AND undone = 0",
            (annotator,),
        ).fetchone()
        recent = self._db.execute(
            "SELECT seconds FROM answers WHERE annotator = ? AND seconds IS NOT NULL "
            "ORDER BY seq DESC LIMIT ?",
            (annotator, _RECENT),
        ).fetchall()
        left = len(self._left(annotator))
        pace = median(row["seconds"] for row in recent) if recent else None
        return Progress(counts["labelled"], counts["skipped"], left, None if pace is None else pace * left)


def _item(row: sqlite3.Row) -> Item:
    prompt = parse_messages(json.loads(row["prompt"]))
    columns = json.loads(row["columns"])
    return Item(row["id"], prompt, row["a"], row["b"], row["margin"], row["confidence"], columns)


def _given(row: sqlite3.Row) -> Given:
    return Given(*(row[name] for name in ("item", "annotator", "answer", "reason", "seconds")))
