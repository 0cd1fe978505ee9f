"""References beside hypotheses, in any of NIST's formats, to edits per segment."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from carnelian.errors import ScoringError
from carnelian.files import one_line
from carnelian.scoring.sclite.alignment import PLAIN_RULES, AlignedItems, ScliteRules, align_items
from carnelian.scoring.sclite.ctm import CtmWord, ctm_groups, ctm_items
from carnelian.scoring.sclite.network import parse_transcript
from carnelian.scoring.sclite.stm import StmFile, StmSegment
from carnelian.scoring.sclite.trn import speaker_of
from carnelian.scoring.sclite.weights import WeightedErrors
from carnelian.scoring.wer import Edit, Errors, errors_by_group, errors_of_edits


@dataclass(frozen=True, slots=True)
class ScoredSegment:
    """The edits of an utterance or segment, its speaker and the labels of the subsets that it belongs to.

    weighted: the sums of weights, where words are weighted.
    """

    name: str
    speaker: str
    edits: tuple[Edit, ...]
    weighted: WeightedErrors | None = None
    labels: tuple[str, ...] = ()

    @property
    def errors(self) -> Errors:
        """Their counts."""
        return errors_of_edits(self.edits)


def score_trn(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    rules: ScliteRules = PLAIN_RULES,
    *,
    speakers: str = "spu_id",
) -> list[ScoredSegment]:
    """Scores transcripts by utterance; a reference without a hypothesis counts as all deleted.

    speakers: how an utterance's name tells its speaker ("spu_id", "wsj"), see `speaker_of`.
    """
    extra = [name for name in hypotheses if name not in references]
    if extra:
        raise ScoringError(
            f'{len(extra)} hypotheses have no reference, the first is "{one_line(extra[0], 60)}". Give the references of all of them'
        )
    return [
        ScoredSegment(name, speaker_of(name, speakers), *align_texts(reference, hypotheses.get(name, ""), rules))
        for name, reference in references.items()
    ]


def align_texts(reference: str, hypothesis: str, rules: ScliteRules) -> AlignedItems:
    """The edits between two transcripts as text."""
    one, other = (parse_transcript(rules.folded(text)) for text in (reference, hypothesis))
    return align_items(one, other, rules)


def score_stm(
    reference: StmFile,
    words: Sequence[CtmWord],
    rules: ScliteRules = PLAIN_RULES,
    *,
    reduce_reference: bool = False,
    reduce_hypothesis: bool = False,
) -> list[ScoredSegment]:
    """Scores timed words segment by segment; each word belongs to the segment in which its middle lies.

    Words before a segment count to it, those behind the last one to the last. A channel without words is all deleted.
    reduce_reference: leave out segments that lie outside the recognized words, and the words behind the last segment
        where it is left out [sclite -m ref].
    reduce_hypothesis: leave out words that lie outside the segments [sclite -m hyp].
    """
    recognized = by_channel(words)
    refuse_unexpected(recognized, map(channel_key, reference.segments), "segments")
    counts: Counter[str] = Counter()
    scored = []
    for key, segments in by_channel(reference.segments).items():
        segments = sorted(map(single_times, segments), key=lambda segment: segment.start)
        found, last = in_time_order(recognized.get(key, [])), segments[-1]
        if reduce_reference and found:
            segments = inside_words(segments, found)
        if reduce_hypothesis:
            found = inside_segments(segments, found)
        for segment, inside in zip(segments, cut(segments, ctm_groups(found), last)):
            if segment.ignored:
                continue
            speaker = segment.speaker if rules.case == "keep" else segment.speaker.lower()
            name = f"{speaker}-{counts[speaker]:03d}"
            counts[speaker] += 1
            items = parse_transcript(rules.folded(segment.text)), ctm_items(inside, rules.folded)
            scored.append(ScoredSegment(name, speaker, *align_items(*items, rules), segment.labels))
    return scored


def single_times(segment: StmSegment) -> StmSegment:
    """The segment with its times rounded to single precision, as sclite reads them; it decides about words at their edges."""
    return replace(segment, start=float(np.float32(segment.start)), end=float(np.float32(segment.end)))


def refuse_unexpected(recognized: Iterable[tuple[str, str]], expected: Iterable[tuple[str, str]], what: str) -> None:
    """Raises where a channel has recognized words but no reference."""
    if extra := set(recognized) - set(expected):
        recording, channel = min(extra)
        where = one_line(f'recording "{recording}", channel {channel}', 100)
        raise ScoringError(f"{where}, has recognized words but no reference. Give its {what}")


def channel_key(each: StmSegment | CtmWord) -> tuple[str, str]:
    """Recording and channel, in small letters as sclite compares them."""
    return each.recording.lower(), each.channel.lower()


Timed = TypeVar("Timed", StmSegment, CtmWord)


def by_channel(parts: Iterable[Timed]) -> dict[tuple[str, str], list[Timed]]:
    """The words, or the segments, of each channel."""
    channels: dict[tuple[str, str], list[Timed]] = {}
    for part in parts:
        channels.setdefault(channel_key(part), []).append(part)
    return channels


def in_time_order(words: Sequence[CtmWord]) -> list[CtmWord]:
    """Words sorted by their start; alternates stay together, with their first word's."""
    groups = sorted(ctm_groups(words), key=lambda group: next((word.start for word in group if not word.mark), 0.0))
    return [word for group in groups for word in group]


def cut(
    segments: Sequence[StmSegment], groups: Sequence[Sequence[CtmWord]], last: StmSegment
) -> Iterator[Sequence[Sequence[CtmWord]]]:
    """The words (or alternates) of each segment, in order; `last` takes all that are left."""
    begin = 0
    for segment in segments:
        end = begin
        while end < len(groups) and (segment is last or latest(groups[end]) < segment.end):
            end += 1
        yield groups[begin:end]
        begin = end


def latest(group: Sequence[CtmWord]) -> float:
    """The latest middle of a word, or of any word of alternates."""
    return max((word.middle for word in group if not word.mark), default=0.0)


def inside_words(segments: Sequence[StmSegment], words: Sequence[CtmWord]) -> list[StmSegment]:
    """The segments that overlap the time from the first to the last recognized word."""
    begin, end = words[0].start, words[-1].start + words[-1].duration
    return [each for each in segments if begin < each.end and end > each.start]


def inside_segments(segments: Sequence[StmSegment], words: Sequence[CtmWord]) -> list[CtmWord]:
    """The words that overlap the time from the first to the last segment; alternates stay whole if any word does."""
    begin = min((each.start for each in segments), default=float("inf"))
    end = max((each.end for each in segments), default=float("-inf"))
    kept = []
    for group in ctm_groups(words):
        if any(not word.mark and word.start <= end and word.start + word.duration >= begin for word in group):
            kept += group
    return kept


def per_speaker(segments: Sequence[ScoredSegment]) -> dict[str, Errors]:
    """The errors of each speaker, in the order of their first segments."""
    return errors_by_group((each.speaker for each in segments), (each.errors for each in segments))


def per_label(segments: Iterable[ScoredSegment]) -> dict[str, Errors]:
    """The errors of each subset; a segment counts in every subset that it is labelled with."""
    totals: dict[str, Errors] = {}
    for segment in segments:
        for label in segment.labels:
            totals[label] = totals.get(label, Errors()) + segment.errors
    return totals
