"""Steps that can be undone: changes of who is who, noted row by row in the gallery's own file.

Triggers note what a step changes while it is made; they are the connection's, not the file's. What
is noted is data, never SQL: anybody may have written the file.
"""

import contextlib
import json

from gallery.store import FILE, Writer, errors
from runtime.errors import one_line

# Of the tables that steps change: columns that tell rows apart, and those that change.
UNDONE = {
    "people": (["id"], ["name"]), "labels": (["label"], ["person"]),
    "photographs": (["id"], ["reason"]), "faces": (["id"], ["person", "by_hand"]),
    "probes": (["rowid"], ["code", "person", "vector"]), "groups": (["face"], ["number"]),
    "rejected": (["face", "person"], []), "apart": (["face", "other"], [])}
MOST_STEPS = 20  # that can be undone


@contextlib.contextmanager
def step(path):
    """A Writer whose changes can be undone from `begin` on; it commits at the end."""
    with Writer(path, is_step=True) as writer:
        yield writer
        writer.commit()


def begin(writer, text):
    """Notes all further changes of a step, so that `undo` can take them back.

    Args:
        text: str, what is done, for people.
    """
    step = writer.run("INSERT INTO steps (text) VALUES (?)", text).lastrowid
    writer.run("DELETE FROM steps WHERE step <= ?", step - MOST_STEPS)
    for table, (keys, values) in UNDONE.items():
        old, new = (f"json_array({', '.join(f'{row}.{name}' for name in keys + values)})"
                    for row in ("OLD", "NEW"))
        for event, before, after in (("INSERT", "NULL", new), ("DELETE", old, "NULL"),
                                     ("UPDATE", old, new)):
            writer.run(f"CREATE TEMP TRIGGER undo_{table}_{event} AFTER {event} ON main.{table} "
                       f"BEGIN INSERT INTO changes (step, name, old, new) VALUES "
                       f"({step}, '{table}', {before}, {after}); END")


def undo(writer):
    """Takes the last step back. Returns its text; None where there is none."""
    steps = writer.rows("SELECT step, text FROM steps ORDER BY step DESC LIMIT 1")
    if not steps:
        return None
    (step, text), = steps
    writer.run("PRAGMA defer_foreign_keys = ON")
    changes = writer.rows("SELECT name, old, new FROM changes WHERE step = ? ORDER BY id DESC",
                          step)
    for table, old, new in changes:
        with errors(writer.path / FILE):
            _take_back(writer, table, old and json.loads(old), new and json.loads(new))
    writer.run("DELETE FROM steps WHERE step = ?", step)
    writer.faces_changed(sum(table in ("faces", "probes") for table, _, _ in changes))
    return text


def _take_back(writer, table, old, new):
    if table not in UNDONE:
        raise ValueError(f"a step changed the table {one_line(table, 20)}")
    keys, values = UNDONE[table]
    where = " AND ".join(f"{name} = ?" for name in keys)
    if new is None:
        writer.run(f"INSERT INTO {table} ({', '.join(keys + values)}) VALUES "
                   f"({', '.join('?' * len(keys + values))})", *old)
    elif old is None:
        writer.run(f"DELETE FROM {table} WHERE {where}", *new[:len(keys)])
    else:
        writer.run(f"UPDATE {table} SET " + ", ".join(f"{name} = ?" for name in keys + values)
                   + f" WHERE {where}", *old, *new[:len(keys)])
