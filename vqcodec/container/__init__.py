"""The ``.vqv`` file: index grids in, bytes out, and back. Knows nothing of networks or pixels.

``docs/format.md`` is the specification; the modules follow its sections:
:mod:`layout <vqcodec.container.layout>` (magic, tags, chunk heads, limits), ``number``, ``header``
(``header1`` of version 1), ``packers`` and ``range_payload`` (indices to payload) and ``audio``.
``packing`` and ``writer`` make a file of these; ``source``, ``chunk``, ``reader``, ``audio_span``
and ``file`` read it, ``verify`` checks it, and ``cut`` drops its finer levels. ``search``,
``salvage``, ``loss``, ``repair`` and ``retime`` are for damaged files.
"""

from vqcodec.container.chunk import Chunk, Entry
from vqcodec.container.header import Header, Level, nearest_ratio
from vqcodec.container.loss import Losses, Lost
from vqcodec.container.packers import PACKERS
from vqcodec.container.reader import Reader, Table
from vqcodec.container.salvage import Salvage
from vqcodec.container.verify import Report, verify
from vqcodec.container.writer import Writer

__all__ = [
    "PACKERS",
    "Chunk",
    "Entry",
    "Header",
    "Level",
    "Losses",
    "Lost",
    "Reader",
    "Report",
    "Salvage",
    "Table",
    "Writer",
    "nearest_ratio",
    "verify",
]
