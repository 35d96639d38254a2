"""Entropy coding of indices by a learned prior, in integers: the ``range`` packers.

``docs/format.md`` is the specification. ``config`` says what a prior looks like, ``context`` what
a symbol looks at, ``integer`` is the network, ``prior`` checks tensors and predicts, ``coder``
turns grids to bytes and back. NumPy and constriction, no torch; importing this imports nothing.
"""
