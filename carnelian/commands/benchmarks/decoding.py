"""How fast log-probabilities become text: `carnelian benchmark decoding`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian.benchmarking.results import BenchmarkRun
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, Contender, measure_in_turns, run_benchmark
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.data.audio import load_audio
from carnelian.data.utterance import read_manifest
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.errors import CarnelianError
from carnelian.files import reading
from carnelian.ngram.load import load_language_model
from carnelian.scoring.wer import Errors, errors_of_texts

WIDTHS = [16, 64, 128, 512]
Decode = Callable[[np.ndarray], str]


@dataclass(frozen=True)
class EmissionSet:
    """Log-probabilities (O, V) of utterances with their texts, from a file or a model."""

    name: str
    alphabet: Alphabet
    log_probs: Sequence[np.ndarray]
    texts: Sequence[str]


def benchmark_decoding(
    sources: Annotated[
        list[Path], "manifests for --model; or .npz files with log_probs (N, O, V) and text (N), or a folder of them"
    ],
    *,
    model: Annotated[
        Path | None, "a checkpoint or exported model, whose log-probabilities of the manifests are decoded"
    ] = None,
    language_model: Annotated[
        Path | None, "an n-gram model for the beam search; without one only the greedy decoder is timed"
    ] = None,
    beam_width: Annotated[list[int], "hypotheses kept at each step; may be given again"] = WIDTHS,
    alpha: Annotated[float, "weight of the language model"] = 0.8,
    beta: Annotated[float, "bonus for each word"] = 2.0,
    alphabet: Annotated[str, "the characters of .npz files, without the blank, which is last"] = ENGLISH,
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    """Time the greedy decoder and the beam search on one thread: milliseconds an utterance, and the word error rate.

    Example: carnelian benchmark decoding data/an4/test.jsonl --model runs/an4 --language-model an4.arpa
    """
    sets = (
        [model_emissions(path, model) for path in sources] if model else stored_emissions(sources, Alphabet(alphabet))
    )

    def measure() -> BenchmarkRun:
        decoders = our_decoders(sets[0].alphabet, language_model, beam_width, alpha, beta)
        return measure_in_turns("decoding", decoding_contenders(sets, decoders), options)

    run_benchmark(options, measure, clock="processor")


def our_decoders(
    alphabet: Alphabet, language_model: Path | None, widths: Sequence[int], alpha: float, beta: float
) -> dict[tuple[str, int], Decode]:
    """Returns the decoders of this package by name and beam width (0: greedy)."""
    greedy = Greedy(alphabet)
    found: dict[tuple[str, int], Decode] = {("greedy", 0): lambda log_probs: greedy(log_probs)[0].text}
    if language_model:
        search = BeamSearch(alphabet, load_language_model(language_model), alpha=alpha, beta=beta)
        for width in widths:
            decoder = search.weighed(alpha, beta, width)
            found["beam search", width] = lambda log_probs, decoder=decoder: decoder(log_probs)[0].text  # type: ignore[misc]
    return found


def decoding_contenders(sets: Sequence[EmissionSet], decoders: dict[tuple[str, int], Decode]) -> list[Contender]:
    """Returns a contender for each set and decoder, which decodes all utterances of the set, one after the other."""
    return [
        decoding_contender(each, name, width, decode) for each in sets for (name, width), decode in decoders.items()
    ]


def decoding_contender(emissions: EmissionSet, name: str, width: int, decode: Decode) -> Contender:
    """Returns one decoder on one set, whose word error rate is told."""
    texts: list[str] = []

    def call() -> None:
        texts[:] = [decode(each) for each in emissions.log_probs]

    def found() -> dict[str, float]:
        return {"WER %": 100 * sum(errors_of_texts(emissions.texts, texts), Errors()).rate}

    case: dict[str, object] = {"set": emissions.name, "decoder": name, "width": width or "–"}
    return Contender(case, call, {"utterances": len(emissions.texts)}, found)


def stored_emissions(sources: Sequence[Path], alphabet: Alphabet) -> list[EmissionSet]:
    """Returns the sets in .npz files; CarnelianError where one does not hold log-probabilities of this alphabet."""
    files = [file for path in sources for file in (sorted(path.glob("*.npz")) if path.is_dir() else [path])]
    if not files:
        raise CarnelianError(f"{sources[0]}: no .npz file in it. Give log-probabilities, or manifests and --model")
    found = []
    for path in files:
        with reading(path, "an .npz file with log_probs and text"), np.load(path) as data:
            log_probs, texts = data["log_probs"].astype(np.float32), [str(text) for text in data["text"]]
        if log_probs.ndim != 3 or log_probs.shape[2] != len(alphabet) + 1 or len(log_probs) != len(texts):
            wanted = f"(utterances, steps, {len(alphabet) + 1})"
            raise CarnelianError(
                f"{path}: log_probs of shape {log_probs.shape}; expected {wanted}, and a text for each"
            )
        found.append(EmissionSet(path.stem, alphabet, list(log_probs), texts))
    return found


def model_emissions(manifest: Path, model: Path) -> EmissionSet:
    """Returns a model's log-probabilities of a manifest's utterances."""
    from carnelian.inference.recognizer import Recognizer

    recognizer, utterances = Recognizer.load(model), list(read_manifest(manifest))
    audio = (load_audio(utterance, recognizer.sample_rate) for utterance in utterances)
    log_probs = [recognizer.emissions([each])[0].log_probs for each in audio]
    return EmissionSet(manifest.stem, recognizer.alphabet, log_probs, [each.text for each in utterances])
