"""An utterance: a stretch of speech in a file, and what was said."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of a recording: `duration` seconds from `offset` of the file, and its reference text.

    `more` holds the manifest's other keys (speaker, lang, ...), which are kept when it is written again.
    """

    audio_filepath: str
    duration: float
    text: str = ""
    offset: float = 0.0
    more: dict = field(default_factory=dict)
