"""Typed settings: fields of a frozen dataclass with a meaning, a range and a way to be read.

A class of settings declares its fields with `setting` and passes values through `checked_value`.
"""

import dataclasses
import difflib
import math
import re
from typing import Union

from runtime.errors import UserError

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
MOST = 10 ** 18
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}\Z")  # longer ones fit no setting and no array index


SCOPES = ("run", "place", "length", "sample")


def setting(default, help, low=None, high=None, choices=None, scope="run"):
    """A field of a settings class.

    Args:
        default: its value where none is given.
        help: meaning, with unit and source.
        low, high: inclusive range of a number, or None.
        choices: the values that it may have, or None.
        scope: what a change of it means. "run": other results. "sample": other results, and tables
            take the mean over it. "length": a resumed run may change it. "place": a resumed run may
            change it, and results stay the same.
    """
    assert scope in SCOPES, scope
    return dataclasses.field(default=default, metadata=dict(
        help=help, low=low, high=high, choices=choices, scope=scope))


def setting_names(settings_class, *scopes):
    """Names of the settings of a class, in the order of their definition.

    Args:
        settings_class: a dataclass of settings.
        scopes: of SCOPES; only settings with one of these; all settings by default.
    """
    return [field.name for field in dataclasses.fields(settings_class)
            if not scopes or field.metadata["scope"] in scopes]


def value_types(field):
    """The types a field's value may have, None left out."""
    types = field.type.__args__ if getattr(field.type, "__origin__", None) is Union else (
        field.type,)
    return tuple(kind for kind in types if kind is not type(None))


def parse_value(field, text):
    """A command-line argument as the field's type. Raises UserError that says what it takes."""
    types = value_types(field)
    if bool in types:
        if text.lower() not in TRUTH:
            raise UserError(f"{field.name} takes true or false, not {text[:40]!r}")
        return TRUTH[text.lower()]
    if int in types and WHOLE_NUMBER.match(text):
        return int(text)
    if str in types:
        return text
    if float in types:
        try:
            return float(text)
        except ValueError:
            pass
    kind = "number" if float in types else "whole number"
    raise UserError(f"{field.name} takes a {kind}{_range(field)}, not {text[:40]!r}")


def checked_value(field, value):
    """`value` if it has the field's type and range; a whole number may stand for a float.

    Raises:
        UserError: it has not; the message names the setting and what it takes.
    """
    types = value_types(field)
    if value is None and field.default is None:
        return None
    if isinstance(value, int) and abs(value) >= MOST:  # also what no float can hold
        raise UserError(f"{field.name} is {value!r:.60}; it must be a number{_range(field)}")
    if types == (float,) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = " or ".join(kind.__name__ for kind in types)
        raise UserError(f"{field.name} must be of type {names}, not {value!r:.60}")
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise UserError(f"{field.name} is {value!r:.60}; valid values: {', '.join(choices)}")
    low, high = field.metadata["low"], field.metadata["high"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        outside = (low is not None and value < low) or (high is not None and value > high)
        if outside or not math.isfinite(value):
            kind = "finite" if float in types else "whole"
            raise UserError(f"{field.name} is {value!r:.60}; it must be a {kind} "
                            f"number{_range(field)}")
    return value


def nearest_names(name, names):
    """The names most like `name`, most alike first; may be empty."""
    longer = [other for other in names if other.startswith(name) or name.startswith(other)]
    if longer:  # --dataset means --dataset_flag, and not --erase, however alike they are
        return longer[:3]
    return difflib.get_close_matches(name, names, n=3, cutoff=0.6)


def _range(field):
    low, high = field.metadata["low"], field.metadata["high"]
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else ""
