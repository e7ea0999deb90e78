"""What tells two requests apart: nested plain values, compared by dotted names."""

from typing import Any


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, for messages: ``a.b was 1, now 2``.

    Parameters
    ----------
    found, wanted
        As JSON gives them back, or with tuples in place of lists.
    """
    before, now = _flat(found), _flat(wanted)
    return [
        f"{key} was {before.get(key, 'absent')}, now {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
