"""The decoder a user asks for: greedy, or a beam search with a language model and the weights that were tuned for it."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.fusion import SPECIAL
from carnelian.decoding.greedy import Greedy
from carnelian.decoding.language_model import load_language_model
from carnelian.decoding.viterbi import Viterbi
from carnelian.errors import DecodingError
from carnelian.files import written
from carnelian.models.asg import ASG
from carnelian.models.stretch import STRETCHES, sensible
from carnelian.recipe import fits

#: what the commands say of their option
STRETCH = (
    "hear speech as if it took so many times as long; given several times, each recording at the likeliest; "
    "by default as the model's recipe says"
)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to decode: without a language model greedily. A TOML file holds the same keys.

    With `closed_vocabulary` only words of the language model are found. With several `stretches` each recording is heard at each, as
    if it took so many times as long, and the likeliest counts; with none, at the model's own.
    """

    language_model: str = ""
    alpha: float = 0.8
    beta: float = 2.0
    beam_width: int = 64
    closed_vocabulary: bool = False
    stretches: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not sensible(self.stretches):
            raise DecodingError(f"stretches {list(self.stretches)}: expected {STRETCHES}")

    def with_options(self, **options: Any) -> "Decoding":
        """The same, changed by those options that are not None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    def decoder(
        self,
        alphabet: Alphabet,
        criterion: Any | None = None,
        *,
        hypotheses: int = 1,
        hot_words: Mapping[str, float] | None = None,
    ):
        """The decoder for an alphabet and what the model was trained by; the best path where nothing asks for a search."""
        if self.closed_vocabulary and not self.language_model:
            raise DecodingError(
                "closed vocabulary: there is no language model whose words to keep to. Give one, or leave it open"
            )
        if not self.language_model and not hot_words and hypotheses == 1:
            return Viterbi(alphabet, criterion) if isinstance(criterion, ASG) else Greedy(alphabet)
        if isinstance(criterion, ASG):
            raise DecodingError(
                "language model, hot words, several hypotheses: the beam search knows CTC alone, and this model was trained by ASG. "
                "Leave them out; it is then decoded by its best path"
            )
        model = load_language_model(self.language_model) if self.language_model else None
        return BeamSearch(
            alphabet,
            model,
            alpha=self.alpha,
            beta=self.beta if model else 0.0,
            beam_width=self.beam_width,
            hypotheses=hypotheses,
            hot_words=hot_words,
            lexicon=set(model.words) - SPECIAL if model and self.closed_vocabulary else None,
        )


def read_decoding(path: str | Path) -> Decoding:
    """The settings in a TOML file, as `carnelian tune` writes it; a language model's path is as seen from that file."""
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DecodingError(
            f'{path}: not decoding settings ({error}). Give the file that "carnelian tune" wrote'
        ) from None
    known = get_type_hints(Decoding)
    for key, value in found.items():
        if key not in known or not fits(value, known[key]):
            raise DecodingError(f"{path}: {key} = {value!r} is not a decoding setting. Known: {', '.join(known)}")
    if found.get("language_model"):
        found["language_model"] = str(Path(path).parent / found["language_model"])
    if "stretches" in found:
        found["stretches"] = tuple(found["stretches"])
    try:
        return Decoding(**found)
    except DecodingError as error:
        raise DecodingError(f"{path}: {error}") from None


def write_decoding(path: str | Path, decoding: Decoding) -> None:
    """Writes settings as TOML, beside and renamed."""
    path = Path(path)
    values = asdict(decoding)
    if decoding.language_model:
        values["language_model"] = os.path.relpath(decoding.language_model, path.parent)
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    with written(path) as file:
        file.write("\n".join(lines) + "\n")


def make_decoding(
    settings: Path | None,
    language_model: Path | None,
    alpha: float | None,
    beta: float | None,
    beam_width: int | None,
    closed_vocabulary: bool | None = None,
    stretch: Sequence[float] = (),
) -> Decoding:
    """The settings of a file, or the defaults, changed by a command's options."""
    decoding = read_decoding(settings) if settings else Decoding()
    return decoding.with_options(
        language_model=str(language_model) if language_model else None,
        alpha=alpha,
        beta=beta,
        beam_width=beam_width,
        closed_vocabulary=closed_vocabulary,
        stretches=tuple(stretch) or None,
    )
