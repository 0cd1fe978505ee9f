"""The decoder of given settings: greedy, or a beam search with a language model and the weights that were tuned for it."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from carnelian.data.alphabet import Alphabet
from carnelian.decoding.limits import WIDEST, Alpha, BeamWidth, Beta, check_weight, checked_width
from carnelian.errors import DecodingError, MissingExtraError, RecipeError
from carnelian.files import reading, written
from carnelian.jit import has_numba
from carnelian.models.time_stretch import TIME_STRETCH_RANGE, in_range
from carnelian.ranges import between
from carnelian.recipe import call, matches_type


@dataclass(frozen=True, slots=True)
class RescoringConfig:
    """How the hypotheses of a search are rescored, the table [rescoring] of a file of settings.

    model: the checkpoint of a language model. hypotheses: of each utterance, at most. The score of one is its acoustic score, plus
    `language_weight` times the search's language score (n-gram model with alpha, word bonus, hot words), plus `neural_weight`
    times the natural log-probability of the sentence, plus `beta` for each word.
    """

    model: str
    hypotheses: Annotated[int, between(2, WIDEST)] = 64
    language_weight: Alpha = 0.5
    neural_weight: Alpha = 0.5
    beta: Beta = 1.0

    def __post_init__(self) -> None:
        check_weight("language_weight", self.language_weight, lowest=0.0)
        check_weight("neural_weight", self.neural_weight, lowest=0.0)
        check_weight("beta", self.beta)
        if not 2 <= self.hypotheses <= WIDEST:
            raise DecodingError(
                f"hypotheses {self.hypotheses}: expected a whole number from 2 to {WIDEST:,} to rescore"
            )


@dataclass(frozen=True, slots=True)
class DecodingConfig:
    """How to decode: without a language model and rescoring greedily. A TOML file holds the same keys.

    With `closed_vocabulary` only words of the language model are found. With several `time_stretches` each recording is decoded at
    each, with its features interpolated to that many times their length, and the most probable result is kept; with none, at
    the model's own.
    """

    language_model: str = ""
    alpha: Alpha = 0.8
    beta: Beta = 2.0
    beam_width: BeamWidth = 64
    closed_vocabulary: bool = False
    time_stretches: tuple[float, ...] = ()
    rescoring: RescoringConfig | None = None

    def __post_init__(self) -> None:
        check_weight("alpha", self.alpha, lowest=0.0)
        check_weight("beta", self.beta)
        checked_width(self.beam_width)
        if not in_range(self.time_stretches):
            raise DecodingError(f"time_stretches {list(self.time_stretches)}: expected {TIME_STRETCH_RANGE}")

    def with_options(self, **options: Any) -> "DecodingConfig":
        """The same, changed by those options that are not None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})

    def decoder(
        self,
        alphabet: Alphabet,
        criterion: Any = None,
        *,
        hypotheses: int = 1,
        hot_words: Mapping[str, float] | None = None,
    ):
        """Returns the decoder for an alphabet and the criterion of the training: the best path where no setting needs a search."""
        if self.closed_vocabulary and not self.language_model:
            raise DecodingError(
                "closed vocabulary: there is no language model whose words to keep to. Give one, or leave it open"
            )
        best_path = not self.language_model and not hot_words and hypotheses == 1
        asg = is_asg(criterion)
        if best_path and not asg:
            from carnelian.decoding.greedy import Greedy

            return Greedy(alphabet)
        if best_path:
            from carnelian.decoding.viterbi import Viterbi

            return Viterbi(alphabet, criterion)
        if asg:
            raise DecodingError(
                "language model, hot words, several hypotheses: the beam search knows CTC alone, and this model was trained by ASG. "
                "Leave them out; it is then decoded by its best path"
            )
        if not has_numba():
            raise MissingExtraError(
                "numba", "search", "The beam search with a language model, hot words or several hypotheses"
            )
        from carnelian.decoding.beam import BeamSearch
        from carnelian.ngram.load import load_language_model
        from carnelian.ngram.words import SPECIAL_WORDS

        model = load_language_model(self.language_model) if self.language_model else None
        return BeamSearch(
            alphabet,
            model,
            alpha=self.alpha,
            beta=self.beta if model else 0.0,
            beam_width=max(self.beam_width, hypotheses),
            hypotheses=hypotheses,
            hot_words=hot_words,
            lexicon=set(model.words).difference(SPECIAL_WORDS) if model and self.closed_vocabulary else None,
        )


def is_asg(criterion: Any) -> bool:
    """Whether a model was trained by ASG; an exported model has no criterion and needs no PyTorch."""
    if criterion is None:
        return False
    from carnelian.models.losses.asg import ASG

    return isinstance(criterion, ASG)


def read_decoding(path: str | Path) -> DecodingConfig:
    """Returns the settings in a TOML file, as `carnelian tune` writes it.

    A language model's path is relative to that file. Raises DecodingError for other files and for what is no setting.
    """
    with reading(path, 'decoding settings, as "carnelian tune" writes them', DecodingError):
        return _config(Path(path), tomllib.loads(Path(path).read_text(encoding="utf-8")))


def _config(path: Path, found: dict[str, Any]) -> DecodingConfig:
    """The settings of a file's table."""
    known = get_type_hints(DecodingConfig)
    rescoring = found.pop("rescoring", None)
    for key, value in found.items():
        if key not in known or not matches_type(value, known[key]):
            raise DecodingError(f"{path}: {key} = {value!r} is not a decoding setting. Known: {', '.join(known)}")
    if found.get("language_model"):
        found["language_model"] = str(Path(path).parent / found["language_model"])
    if "time_stretches" in found:
        found["time_stretches"] = tuple(found["time_stretches"])
    try:
        if rescoring is not None:
            found["rescoring"] = call(RescoringConfig, rescoring, where="rescoring")
            model = str(Path(path).parent / found["rescoring"].model)
            found["rescoring"] = replace(found["rescoring"], model=model)
        return DecodingConfig(**found)
    except (DecodingError, RecipeError) as error:
        raise DecodingError(f"{path}: {error}") from None


def write_decoding(path: str | Path, decoding: DecodingConfig) -> None:
    """Writes settings as TOML, beside and renamed."""
    path = Path(path)
    values = asdict(decoding)
    if decoding.language_model:
        values["language_model"] = os.path.relpath(decoding.language_model, path.parent)
    rescoring = values.pop("rescoring")
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    if rescoring:
        rescoring["model"] = os.path.relpath(rescoring["model"], path.parent)
        lines += ["", "[rescoring]"]
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in rescoring.items()]
    with written(path) as file:
        file.write("\n".join(lines) + "\n")
