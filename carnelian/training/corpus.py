"""What a training reads: the utterances of its manifests, planned into batches by epoch and loaded ahead."""

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from carnelian import console
from carnelian.data.alphabet import Alphabet
from carnelian.data.audio import audio_info
from carnelian.data.augment import chain
from carnelian.data.batch import Batch, load_batches, padding_share, plan_batches
from carnelian.data.utterance import Manifest
from carnelian.errors import ManifestError
from carnelian.recipe import Recipe
from carnelian.training.distributed import World
from carnelian.training.settings import SpeechConfig

TEXTS_COUNTED = 100_000  # of which the characters are counted; of more, some


class Corpus:
    """The utterances of manifests that can be trained on, in batches by epoch, for one of the processes."""

    def __init__(
        self,
        settings: SpeechConfig,
        recipe: Recipe,
        alphabet: Alphabet,
        sample_rate: int,
        world: World,
        *,
        unknown_characters: float | None = None,
        longest: float = math.inf,
    ):
        """unknown_characters: share of the transcripts' characters that may be outside the alphabet; None: transcripts are not needed.

        longest: seconds to which recordings will be cropped, for the plan of the batches.
        """
        self.longest = longest
        self.settings, self.alphabet, self.sample_rate, self.world = settings, alphabet, sample_rate, world
        self.seed = recipe.get("seed", 0)
        self.manifest = Manifest(*settings.manifests)
        self.augment = chain(recipe["augment"], sample_rate) if recipe.get("augment") else None
        durations = self.manifest.durations
        self.kept = np.flatnonzero((durations >= settings.min_duration) & (durations <= settings.max_duration))
        if not len(self.kept):
            raise ManifestError(
                f"{', '.join(settings.manifests)}: none of {len(durations)} utterances is between {settings.min_duration} and "
                f"{settings.max_duration} s. Change [train] min_duration and max_duration"
            )
        self.durations = durations[self.kept]
        if unknown_characters is not None:
            self.check_texts(unknown_characters)

    def speeds(self, epoch: int) -> np.ndarray | None:
        """How fast an epoch plays each utterance of the manifest; None: as recorded."""
        if self.augment is None or self.augment.speeds is None:
            return None
        count = len(self.manifest)
        return self.augment.speeds(count, np.random.default_rng((self.seed, epoch, count)))  # as no utterance's own

    def seconds(self, epoch: int) -> np.ndarray:
        """Seconds of each utterance that is trained on, as an epoch plays it."""
        speeds = self.speeds(epoch)
        seconds = self.durations if speeds is None else self.durations / speeds[self.kept]
        return np.minimum(seconds, self.longest)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, as indices into `durations`."""
        settings = self.settings
        how: dict[str, Any] = {
            "batch_size": settings.batch_size or None,
            "batch_seconds": settings.batch_seconds or None,
            "seed": self.seed,
            "epoch": epoch,
            "rank": self.world.rank,
            "ranks": self.world.ranks,
            "sorted_first_epoch": settings.sorted_first_epoch,
            "padding": settings.padding,
            "shards": self.manifest.shards[self.kept],
        }
        if len(settings.mix) > 1:
            sources = np.searchsorted(self.manifest.firsts, self.kept, side="right") - 1
            return plan_mixture(self.seconds(epoch), sources, settings.mix, **how)
        return plan_batches(self.seconds(epoch), **how)

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from its batch `start` on."""
        batches = load_batches(
            self.manifest,  # type: ignore[arg-type]
            [self.kept[batch] for batch in self.plan(epoch)],
            alphabet=self.alphabet,
            sample_rate=self.sample_rate,
            seed=self.seed,
            epoch=epoch,
            augment=self.augment,
            speeds=self.speeds(epoch),
            workers=self.settings.workers,
            start=start,
        )
        return map(Batch.pin, batches) if self.world.device.startswith("cuda") else batches

    def describe(self) -> None:
        """Notes what is trained on, what is left out, and what is resampled."""
        left = len(self.manifest) - len(self.kept)
        share = padding_share(self.plan(1), self.seconds(1))
        console.note(
            f"{len(self.kept)} utterances, {console.duration_text(float(self.durations.sum()))}, {100 * share:.1f} % padding"
            + (f"; {left} left out by their duration" if left else "")
        )
        first = self.manifest[int(self.kept[0])]
        found = audio_info(first).sample_rate
        if found != self.sample_rate:
            console.note(
                f"{first.audio_filepath} has {found} samples a second, the model takes {self.sample_rate}: recordings are resampled"
            )

    def fingerprint(self) -> dict[str, Any]:
        """Returns numbers that identify what is trained on: a run that goes on compares them."""
        return {
            "utterances": len(self.manifest),
            "durations": zlib.crc32(np.ascontiguousarray(self.durations).tobytes()),
        }

    def check_texts(self, unknown_characters: float) -> None:
        """Notes characters of the transcripts that are outside the alphabet, which are left out of the targets.

        Raises ManifestError if there are more than the share `unknown_characters` of them, or if no utterance has a transcript.
        """
        every = -(-len(self.kept) // TEXTS_COUNTED)
        found: Counter[str] = Counter()
        for index in self.kept[::every]:
            found.update(self.manifest[int(index)].text)
        if not found:
            raise ManifestError(
                f"{', '.join(self.settings.manifests)}: no utterance has a transcript. "
                'Give manifests whose lines have the key "text"'
            )
        missing = Counter({character: found[character] for character in self.alphabet.unknown("".join(found))})
        if not missing:
            return
        share = missing.total() / found.total()
        named = " ".join(repr(character) for character, _ in missing.most_common(10))
        words = (
            f"{missing.total():,} of {found.total():,} characters are not in the alphabet: {named}"
            + (" ..." if len(missing) > 10 else "")
            + (f" (in every {every}th text)" if every > 1 else "")
        )
        if share > unknown_characters:
            lower = Counter(
                {character: count for character, count in missing.items() if character.lower() in self.alphabet.symbols}
            )
            remedy = (
                "The alphabet is lower case: normalize the transcripts (carnelian check MANIFEST --normalize en)"
                if lower.total() > missing.total() * 0.5
                else "Change the alphabet"
            )
            raise ManifestError(
                f"{', '.join(self.settings.manifests)}: {words}. {remedy}, "
                f"or allow it with --set train.unknown_characters={min(1.0, share + 0.01):.2f}"
            )
        if self.world.rank == 0:
            console.note(f'{words}; they are left out of the targets. See "carnelian check"')


def halves(batch: Batch) -> list[Batch]:
    """A batch in two, the second the smaller; one of a single row as it is."""
    middle = (len(batch) + 1) // 2
    parts = [slice(0, middle), slice(middle, len(batch))]
    return [
        Batch(
            batch.audio[part],
            batch.audio_lengths[part],
            batch.targets[part],
            batch.target_lengths[part],
            batch.texts[part],
            batch.utterances[part],
        )
        for part in parts
        if batch.utterances[part]
    ]


def plan_mixture(
    durations: np.ndarray,
    sources: np.ndarray,
    shares: Sequence[float],
    *,
    batch_size: int | None = None,
    batch_seconds: float | None = None,
    epoch: int = 0,
    shards: np.ndarray | None = None,
    **settings: Any,
) -> list[np.ndarray]:
    """One epoch's batches (indices into `durations`), each with about `shares[k]` of its utterances or seconds from source k.

    sources (N,): the number of each utterance's source. An epoch is one pass over source 0; the others are gone through at their
    own pace, as often as they are needed, and go on in the next epoch where they stopped. Parts of one batch are of similar length.
    Other settings are those of `plan_batches`.
    """

    def plan(source: int, own_epoch: int) -> list[np.ndarray]:
        members = np.flatnonzero(sources == source)
        batches = plan_batches(
            durations[members],
            batch_size=max(1, round(batch_size * shares[source])) if batch_size else None,
            batch_seconds=batch_seconds * shares[source] if batch_seconds else None,
            epoch=own_epoch,
            shards=None if shards is None else shards[members],
            **settings,
        )
        return [members[batch] for batch in batches]

    leading = plan(0, epoch)
    mixed = list(leading)
    by_length = np.argsort([durations[batch].max() for batch in leading], kind="stable")
    for source in range(1, len(shares)):
        first, skipped = divmod(epoch * len(leading), len(plan(source, 0)))
        found: list[np.ndarray] = []
        while len(found) < skipped + len(leading):
            found += plan(source, first)
            first += 1
        some = sorted(found[skipped : skipped + len(leading)], key=lambda batch: durations[batch].max())
        for index, batch in zip(by_length, some):
            mixed[index] = np.concatenate([mixed[index], batch])
    return mixed
