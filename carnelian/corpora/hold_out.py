"""A part of a corpus held out, to choose settings by: speakers, or utterances at random where none are known."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from carnelian.console import note
from carnelian.data.utterance import Utterance
from carnelian.errors import ManifestError
from carnelian.files import one_line

Parts = tuple[list[Utterance], list[Utterance]]


def hold_out_speakers(utterances: list[Utterance], count: int) -> Parts:
    """The utterances of all speakers but `count`, and of those; always the same ones are drawn.

    Utterances without a speaker stay in the first part, and are counted in a note.
    """
    speakers = sorted({speaker_name(utterance) for utterance in utterances} - {""})
    if not speakers:
        raise ManifestError(
            f"--hold-out {count}: no speakers are known. Give --speaker-pattern, or --hold-out-share 0.1 for utterances at random"
        )
    if not 0 < count < len(speakers):
        raise ManifestError(
            f"--hold-out {count}: there are {len(speakers)} speakers. Give a number between 1 and one less than there are"
        )
    held = set(np.random.default_rng(0).choice(speakers, count, replace=False).tolist())
    unknown = sum(not speaker_name(utterance) for utterance in utterances)
    if unknown:
        note(f"{unknown} utterances have no speaker and stay in train")
    return held_out_parts(utterances, [speaker_name(utterance) in held for utterance in utterances])


def hold_out_recordings(utterances: list[Utterance], share: float) -> Parts:
    """The utterances but for about a share of them, and that share; always the same ones are drawn.

    All utterances of a recording are on one side. A note says how many speakers are on both.
    """
    recordings = sorted({utterance.audio_filepath for utterance in utterances})
    count = round(share * len(recordings))
    if not 0 < share < 1 or not 0 < count < len(recordings):
        raise ManifestError(
            f"--hold-out-share {share:g}: expected a share between 0 and 1 that leaves both parts some of the "
            f"{len(recordings)} recordings"
        )
    held = {recordings[index] for index in np.random.default_rng(0).choice(len(recordings), count, replace=False)}
    parts = held_out_parts(utterances, [utterance.audio_filepath in held for utterance in utterances])
    both = set.intersection(*(set(map(speaker_name, part)) for part in parts)) - {""}
    if both:
        note(
            f"{len(both)} speakers are in train and in dev: error rates of dev are too good. --hold-out N takes speakers"
        )
    return parts


def speaker_name(utterance: Utterance) -> str:
    """The name of an utterance's speaker; "" where it is not known."""
    return str(utterance.more.get("speaker", ""))


def held_out_parts(utterances: list[Utterance], held: list[bool]) -> Parts:
    """The utterances that are not held out, and those that are, in their order."""
    parts: Parts = ([], [])
    for utterance, out in zip(utterances, held):
        parts[out].append(utterance)
    return parts


def with_speakers(utterances: Iterable[Utterance], pattern: str, root: Path) -> Iterator[Utterance]:
    """The utterances with the speaker that a regular expression finds in the path of their recording, seen from `root`.

    The speaker is the first group of the match, or all of it. Raises ManifestError for a pattern that is none, or that does not
    match one of the paths.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ManifestError(
            one_line(f"--speaker-pattern {pattern}: not a regular expression ({error}). Fix it, such as '^([^/_]+)_'")
        ) from None
    for utterance in utterances:
        path = Path(utterance.audio_filepath)
        name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        match = expression.search(name)
        speaker = match and match[1 if expression.groups else 0]
        if not speaker:
            raise ManifestError(
                one_line(
                    f"--speaker-pattern {pattern}: finds no speaker in {name}. Write one that matches every recording"
                )
            )
        yield replace(utterance, more=utterance.more | {"speaker": speaker})
