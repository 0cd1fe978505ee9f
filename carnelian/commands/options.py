"""The options that every command with a recognizer has: how to decode, and where to compute."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from carnelian.decoding.settings import DecodingConfig, RescoringConfig, read_decoding
from carnelian.errors import CarnelianError, DecodingError

if TYPE_CHECKING:
    from carnelian.inference.recognizer import Recognizer

VOICE_ACTIVITY_HELP = (
    "what finds the pauses at which subtitles and paragraphs are cut: energy, silero, or none for the words' times"
)
INFERENCE_PRECISIONS = ("fp32", "bf16", "auto")
TIME_STRETCH = (
    "decode with the features interpolated to this many times their length; if given more than once, the result with the "
    "most probable best path is kept; default: as the model's recipe says"
)


@dataclass(frozen=True, slots=True)
class RecognizerOptions:
    """Options of `transcribe` and `evaluate`; the command line makes one option of each field."""

    language_model: Annotated[Path | None, "decode with this n-gram model (ARPA, binary, or a KenLM binary)"] = None
    decoding: Annotated[Path | None, "decoding settings as `carnelian tune` wrote them"] = None
    alpha: Annotated[float | None, "weight of the language model"] = None
    beta: Annotated[float | None, "bonus for each word"] = None
    beam_width: Annotated[int | None, "hypotheses kept at each step"] = None
    closed_vocabulary: Annotated[bool | None, "output only words of the language model"] = None
    hot_word: Annotated[list[str], "an expected word, as word or word=weight; may be given again"] = field(
        default_factory=list
    )
    time_stretch: Annotated[list[float], TIME_STRETCH] = field(default_factory=list)
    rescore: Annotated[
        Path | None, "rescore the hypotheses with this language model (a checkpoint, or a run's folder)"
    ] = None
    rescore_weight: Annotated[float | None, "weight of that language model"] = None
    hypotheses: Annotated[int | None, "hypotheses of each utterance that are rescored, at most"] = None
    correct: Annotated[Path | None, "correct the transcripts with this corrector (a checkpoint, or a run's folder)"] = (
        None
    )
    device: Annotated[str, "cpu, cuda or cuda:N; by default a GPU where there is one"] = ""
    precision: Annotated[str, "fp32, bf16, or auto: the fastest on this processor, measured at first use"] = "fp32"
    force: Annotated[bool, "compute in bf16 also where the processor has no instructions for it"] = False
    batch_seconds: Annotated[float, "seconds of audio in a batch"] = 120.0
    from_: Annotated[str, "fetch a pretrained model from this address, not from where it was published"] = ""

    def __post_init__(self) -> None:
        if self.precision not in INFERENCE_PRECISIONS:
            raise CarnelianError(
                f'--precision "{self.precision}": no such precision. Known: {", ".join(INFERENCE_PRECISIONS)}'
            )
        if self.precision == "bf16" and self.device in ("", "cpu") and not self.force:
            refuse_slow_bf16(self.device)
        if not self.batch_seconds > 0:
            raise CarnelianError(f"--batch-seconds {self.batch_seconds:g}: expected seconds above 0")

    @property
    def hot_words(self) -> dict[str, float]:
        """The hot words with their weights."""
        return dict(map(parse_hot_word, self.hot_word))

    def config(self) -> DecodingConfig:
        """Returns the settings of the file, or the defaults, changed by the options. DecodingError for one without effect."""
        config = read_decoding(self.decoding) if self.decoding else DecodingConfig()
        config = config.with_options(
            language_model=str(self.language_model) if self.language_model else None,
            alpha=self.alpha,
            beta=self.beta,
            beam_width=self.beam_width,
            closed_vocabulary=self.closed_vocabulary,
            time_stretches=tuple(self.time_stretch) or None,
        )
        config = config.with_options(rescoring=self.rescoring(config))
        searches = bool(config.language_model or self.hot_word or config.rescoring)
        for name, given, works in (
            ("--alpha", self.alpha, bool(config.language_model)),
            ("--beta", self.beta, bool(config.language_model)),
            ("--beam-width", self.beam_width, searches),
        ):
            if given is not None and not works:
                raise DecodingError(
                    f"{name} {given}: has no effect without a language model. Give --language-model FILE"
                )
        return config

    def changing_transcripts(self) -> dict[str, Any]:
        """Returns the options that may change transcripts, by their names on the command line, as JSON can hold them."""
        config = asdict(self.config())
        config["time_stretches"] = list(config["time_stretches"])
        more = {
            "--hot-word": sorted(self.hot_word),
            "--precision": self.precision,
            "--correct": str(self.correct or ""),
        }
        return config | more

    def rescoring(self, config: DecodingConfig) -> RescoringConfig | None:
        """Returns how to rescore: as the file of settings says, changed by the options. DecodingError for one without effect."""
        found = config.rescoring
        if self.rescore:
            found = replace(found, model=str(self.rescore)) if found else RescoringConfig(str(self.rescore))
        changes: dict[str, Any] = {"neural_weight": self.rescore_weight, "hypotheses": self.hypotheses}
        given = {name: value for name, value in changes.items() if value is not None}
        if given and not found:
            option = "--hypotheses" if self.rescore_weight is None else "--rescore-weight"
            raise DecodingError(f"{option}: has no effect without rescoring. Give --rescore MODEL")
        return replace(found, **given) if found else None

    def words(self) -> set[str] | None:
        """Returns the words of the language model, None without one."""
        from carnelian.ngram.load import load_language_model
        from carnelian.ngram.words import SPECIAL_WORDS

        path = self.config().language_model
        return set(load_language_model(path).words).difference(SPECIAL_WORDS) if path else None

    def load(self, model: Path, voice_activity: str = "none") -> "Recognizer":
        """Returns the recognizer of a checkpoint with these options; `voice_activity` as the `Recognizer` takes it."""
        from carnelian.inference.recognizer import Recognizer  # here, so that --help does not wait for it

        if model.suffix != ".onnx":
            from carnelian.formats.catalog import find_checkpoint

            model = find_checkpoint(model, self.from_)
        recognizer = Recognizer.load(
            model,
            decoding=self.config(),
            hot_words=self.hot_words or None,
            device=self.device,
            precision=self.precision,
            voice_activity=voice_activity,
        )
        if self.correct:
            from carnelian.rescoring.correction import Corrector

            corrector = Corrector.load(self.correct, device=self.device)
            corrector.check_alphabet(recognizer.alphabet, self.correct)
            recognizer.correct = corrector
        return recognizer


def parse_hot_word(hot_word: str) -> tuple[str, float]:
    """Returns a hot word and its weight, from `word` or `word=weight`."""
    word, _, weight = hot_word.partition("=")
    try:
        return word, float(weight or 10.0)
    except ValueError:
        raise CarnelianError(
            f'--hot-word {hot_word}: "{weight}" is not a number. Write word=weight, such as anna=8'
        ) from None


def refuse_slow_bf16(device: str) -> None:
    """Raises CarnelianError where bf16 would be computed without instructions for it, which takes 10 to 60 times as long."""
    from carnelian.models.device import choose_device, has_bf16

    if choose_device(device) == "cpu" and not has_bf16():
        raise CarnelianError(
            "--precision bf16: this processor has no instructions for it, and would take 10 to 60 times as long. Use fp32, or --force"
        )
