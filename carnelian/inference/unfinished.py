"""Long recordings that were stopped: the state of each is kept on disk meanwhile, and the same call goes on from there."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from carnelian import __version__
from carnelian.data.utterance import Utterance
from carnelian.files import written

SAVED_EVERY = 20.0  # seconds between two states, by the clock
OLDEST = 30 * 24 * 3600.0  # seconds; states that nobody went on from for so long are removed


class UnfinishedRecording:
    """The state of one recording: `load` what was kept, `save` it now and then; beside it a file with the text so far."""

    def __init__(self, path: Path):
        self.path, self.text_path = path, path.with_suffix(".txt")
        self.saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self.saved_at >= SAVED_EVERY

    def load(self) -> dict[str, np.ndarray]:
        """The state that was kept; empty where there is none, or none that can be read."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return dict(file)
        except Exception:  # an archive that is cut can fail in any way
            return {}

    def save(self, state: Mapping[str, np.ndarray], text: str) -> None:
        """Keeps a state in place of the one before."""
        with written(self.path, "wb") as file:
            np.savez(file, **state)  # type: ignore[arg-type]
        with written(self.text_path) as lines:
            lines.write(f"{text}\n")
        self.saved_at = time.monotonic()

    def remove(self) -> None:
        """Removes what is kept."""
        for path in (self.path, self.text_path):
            with suppress(OSError):
                path.unlink()


class UnfinishedRecordings:
    """The states of long recordings, in a folder; `remove` those of this call once all its results are written."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.used: list[UnfinishedRecording] = []

    def of(self, utterance: Utterance, recognizer: str) -> UnfinishedRecording:
        """That of an utterance. recognizer: tells recognizers apart whose results may differ."""
        with suppress(OSError):
            for old in self.folder.iterdir():
                if time.time() - old.stat().st_mtime > OLDEST:
                    old.unlink()
        path, version = os.path.abspath(utterance.audio_filepath), []
        with suppress(OSError, ValueError):
            status = os.stat(path)
            version = [status.st_size, status.st_mtime_ns]
        segment = [utterance.offset, utterance.duration, utterance.more.get("channel")]
        key = json.dumps([__version__, recognizer, path, version, segment])
        digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        found = UnfinishedRecording(self.folder / f"{Path(path).stem[:60]}-{digest}.npz")
        self.used.append(found)
        return found

    def remove(self) -> None:
        """Removes what was kept of the recordings of this call."""
        for each in self.used:
            each.remove()
