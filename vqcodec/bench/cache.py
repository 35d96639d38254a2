"""Results on disk, one small file each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vqcodec.bench.schema import ClipResult
from vqcodec.files import make_folder, replacing

# Raise it when a metric or a way of counting changes: results of before are then measured anew.
_VERSION = 1


@dataclass(frozen=True)
class ResultCache:
    """Maps codec, identity (options, library versions, model hash), setting and clip to a result.

    The clip enters by the hash of its pixels, so results survive a rename, and none survives a
    change of the frames.
    """

    folder: Path

    def get(self, identity: str, setting: str, sha256: str, extras: str = "") -> ClipResult | None:
        """The cached result; None if there is none, or one that cannot be read."""
        path = self._path(identity, setting, sha256, extras)
        try:
            return ClipResult(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, identity: str, result: ClipResult, extras: str = "") -> None:
        """Keep a result; ``extras`` names optional metrics that it has.

        Raises:
            OutputError: the cache cannot be written.
        """
        path = self._path(identity, result.setting, result.clip_sha256, extras)
        make_folder(path.parent)
        with replacing(path, force=True) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(result)), encoding="utf-8")

    def _path(self, identity: str, setting: str, sha256: str, extras: str) -> Path:
        key = json.dumps([_VERSION, identity, setting, sha256, extras])
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:34]}.json"
