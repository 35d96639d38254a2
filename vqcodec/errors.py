"""Every error a user can meet, each with a documented exit code (``vqcodec --help``).

The library raises these; the command line prints ``str(error)`` as one line and exits with
``error.exit_code``. A message says what went wrong and where (file, byte offset, chunk, time).
Exit code 1 says that something went wrong which nobody expected, as when the interpreter ends with
it, and 2 that what was asked for is wrong, as with Click's own errors.
"""

from __future__ import annotations


class VqcodecError(Exception):
    """Base of all expected errors."""

    exit_code = 1


class QualityError(VqcodecError, ValueError):
    """A quality level that the model, or the file, does not have: wrong usage."""

    exit_code = 2


class SettingError(VqcodecError, ValueError):
    """A setting that is out of range or does not go with the others: wrong usage."""

    exit_code = 2


class SourceError(VqcodecError):
    """The input cannot be read as a video: missing, no video stream, undecodable."""

    exit_code = 3


class FormatError(VqcodecError):
    """The bytes are not a valid ``.vqv`` file."""

    exit_code = 4


class ChecksumError(FormatError):
    """A header or chunk whose CRC does not match: the file is damaged there."""

    exit_code = 5


class UnsupportedError(FormatError):
    """A valid file that needs a newer reader: of a later version, or a packer unknown here."""

    exit_code = 6


class TruncatedError(FormatError):
    """The file ends before its end chunk; what came before is whole."""

    exit_code = 7


class ModelMismatchError(VqcodecError):
    """The file was encoded with another model than the one at hand."""

    exit_code = 8


class CheckpointError(VqcodecError):
    """A checkpoint is missing, damaged or not of this architecture."""

    exit_code = 9


class OutputError(VqcodecError):
    """The output cannot be written: it exists, the disk is full, the folder is read-only."""

    exit_code = 10


class DataError(VqcodecError):
    """A data set is missing, empty or laid out differently than expected."""

    exit_code = 11


class BatchError(VqcodecError):
    """Files of a folder failed for different reasons, each told in a line of its own."""

    exit_code = 12


class MemoryLimitError(VqcodecError):
    """To decode the file would take more memory than is allowed."""

    exit_code = 13


class CrashError(VqcodecError):
    """A worker process was killed, ran out of memory or met an error nobody expected."""
