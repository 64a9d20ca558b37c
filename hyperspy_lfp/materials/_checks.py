"""Checks of Miller indices, zone axes and tables of numbers."""

import numpy as np


def check_hkl(hkl, name="hkl"):
    """One reflection as three integers, or an error."""
    try:
        indices = tuple(int(i) for i in hkl)
        whole = len(indices) == 3 and all(float(i) == j for i, j in zip(hkl, indices, strict=True))
    except (TypeError, ValueError):
        whole = False
    if not whole or not any(indices):
        raise ValueError(
            f"{name}={hkl!r} must be three integers (h, k, l), not all zero, for example (2, 0, 0)."
        )
    return indices


def check_zone(zone):
    """A zone axis as three integers, or an error."""
    return check_hkl(zone, name="zone")


def check_table(values, name, shapes, what):
    """Finite numbers with one of some shapes, as nested tuples, or an error.

    A shape that lacks the first of the longest one's axes is meant for all compositions, and is
    given that axis with the size one.
    """
    try:
        table = np.array(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold {what}, but was given as {values!r}.") from error
    if table.shape not in shapes or not np.isfinite(table).all():
        raise ValueError(
            f"{name} must hold {what}, as finite numbers of the shape "
            f"{' or '.join(str(s) for s in shapes)}; given was the shape {table.shape}: "
            f"{values!r}."
        )
    if table.ndim < max(len(s) for s in shapes):
        table = table[None]
    return nested(table.tolist())


def nested(values):
    """Lists within lists as tuples within tuples."""
    return tuple(nested(v) for v in values) if isinstance(values, list) else values


def unnested(values):
    """The inverse of `nested`."""
    return [unnested(v) for v in values] if isinstance(values, tuple) else values
