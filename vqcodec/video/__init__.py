"""Any video in, as small RGB frames at a constant rate; such frames out, as any video.

This package alone knows FFmpeg (through PyAV), and imports it only once something is opened.

Reading: :func:`open_video` (an iterator, constant memory), :func:`read_frames` (all at once),
:func:`probe` (facts only). Writing: :func:`open_sink`. A frame is a ``uint8`` array (H, W, 3),
RGB, 0 to 255.
"""

from vqcodec.video.damage import Damage
from vqcodec.video.formats import CODECS, FORMATS, VIDEO_SUFFIXES, format_of
from vqcodec.video.reader import VideoReader, open_video, probe, read_frames
from vqcodec.video.source import SourceInfo
from vqcodec.video.writer import FrameSink, open_sink

__all__ = [
    "CODECS",
    "FORMATS",
    "VIDEO_SUFFIXES",
    "Damage",
    "FrameSink",
    "SourceInfo",
    "VideoReader",
    "format_of",
    "open_sink",
    "open_video",
    "probe",
    "read_frames",
]
