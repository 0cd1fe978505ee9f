"""The weights of a search and of rescoring for a model: `carnelian tune MODEL MANIFEST... --language-model LM --rescore MODEL`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from carnelian.commands.options import TIME_STRETCH
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import bar, note, table
from carnelian.data.alphabet import Alphabet
from carnelian.data.text.names import NORMALIZE_HELP
from carnelian.data.utterance import Manifest
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.decoding.settings import DecodingConfig, RescoringConfig, write_decoding
from carnelian.decoding.tuning import ALPHAS, BETAS, Tuning, check_grid, decoded_errors, oracle_errors, tune_weights
from carnelian.errors import DecodingError, ManifestError
from carnelian.files import check_outputs
from carnelian.inference.recognizer import Recognizer
from carnelian.scoring.report.plots import check_plots, plot_weights
from carnelian.scoring.wer import Errors

if TYPE_CHECKING:
    from carnelian.rescoring.rescorer import Rescorer


def tune(
    model: Annotated[Path, "the checkpoint"],
    manifests: Annotated[list[Path], "manifests of utterances with their text, not those the model is tested on"],
    *,
    language_model: Annotated[Path | None, "the n-gram model (ARPA, binary, or KenLM's binary)"] = None,
    out: Annotated[Path, "write the best settings here, for transcribe and evaluate"] = Path("decoding.toml"),
    plot: Annotated[Path | None, "draw the word error rates over alpha and beta into this image (PNG)"] = None,
    alpha: Annotated[list[float], "a weight of the language model to try; may be given again"] = list(ALPHAS),  # noqa: B006
    beta: Annotated[list[float], "a bonus for each word to try; may be given again"] = list(BETAS),  # noqa: B006
    beam_width: Annotated[list[int], "a number of beams to try; may be given again"] = [16, 64, 256],  # noqa: B006
    rescore: Annotated[
        Path | None, "tune rescoring by this language model too (a checkpoint, or a run's folder)"
    ] = None,
    hypotheses: Annotated[int, "hypotheses of each utterance that are rescored, at most"] = 64,
    closed_vocabulary: Annotated[bool, "find only words of the language model"] = False,
    time_stretch: Annotated[list[float], TIME_STRETCH] = [],  # noqa: B006
    refinements: Annotated[int, "finer grids around the best"] = 2,
    normalize: Annotated[str, NORMALIZE_HELP] = "",
    device: Annotated[str, "cpu or cuda; by default a GPU where there is one"] = "",
    batch_seconds: Annotated[float, "seconds of audio in a batch"] = 120.0,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Find the weights that give few word errors, and not by luck alone: those of the search, and with --rescore those of rescoring.

    Example: carnelian tune runs/an4 data/an4/dev.jsonl --language-model an4.arpa --out decoding.toml
    """
    if language_model is None and rescore is None:
        raise DecodingError("tune: there is nothing to weigh. Give --language-model FILE, --rescore MODEL or both")
    check_grid(alpha, beta, beam_width, refinements)
    if not batch_seconds > 0:
        raise DecodingError(f"--batch-seconds {batch_seconds:g}: expected seconds above 0")
    check_outputs(out, plot, overwrite=overwrite)
    check_plots("A picture of weights", wanted=bool(plot))
    settings = DecodingConfig(
        str(language_model or ""), closed_vocabulary=closed_vocabulary, time_stretches=(*time_stretch,)
    )
    recognizer = Recognizer.load(model, decoding=settings, device=device)
    if not isinstance(recognizer.decoder, BeamSearch | Greedy):
        raise DecodingError(f"{model}: the model was not trained by CTC, so there is no beam search to tune")
    rescorer = second_pass(rescore, hypotheses, recognizer.alphabet, device) if rescore else None
    settings = replace(settings, time_stretches=recognizer.time_stretches)
    log_probs, references = compute_log_probs(recognizer, manifests, batch_seconds)
    comparison = ScoringOptions(normalize=normalize)
    held_out = HeldOut(log_probs, comparison.normalized(references), comparison.normalize_text)
    greedy = decoded_errors(Greedy(recognizer.alphabet), log_probs, held_out.references, held_out.normalized)
    rates = {"greedy": sum(greedy, Errors()).rate}
    if isinstance(recognizer.decoder, BeamSearch):
        tuning = tune_search(recognizer.decoder, held_out, alpha, beta, beam_width, refinements)
        settings = replace(settings, alpha=tuning.best[0], beta=tuning.best[1], beam_width=tuning.best[2])
        rates |= search_rates(tuning, settings, recognizer.alphabet, held_out)
        if plot:
            plot_tuning(tuning, sorted(beam_width)[len(beam_width) // 2], plot)
    if rescorer:
        settings, found = tune_second_pass(settings, rescorer, recognizer.alphabet, held_out, refinements)
        rates |= found
    print_error_rates(rates, comparison.label)
    write_decoding(out, settings)
    note(f"wrote {out}; give it to transcribe or evaluate as --decoding {out}")


def second_pass(model: Path, hypotheses: int, alphabet: Alphabet, device: str) -> "Rescorer":
    """Returns the rescorer of a neural language model, with the weights that it has before they are tuned."""
    from carnelian.rescoring.rescorer import load_rescorer  # here, because it brings torch, which n-grams do not need

    return load_rescorer(RescoringConfig(str(model), hypotheses=hypotheses), alphabet, device=device)


def print_error_rates(rates: dict[str, float], normalization: str) -> None:
    """Prints word error rates by their names."""
    title = f"Word error rates (normalisation: {normalization})"
    table(title, ("", "WER %"), [(name, f"{100 * rate:.2f}") for name, rate in rates.items()])


@dataclass(frozen=True)
class HeldOut:
    """Utterances to tune on: log-probabilities (O, V) and references, and what is applied to hypotheses before a comparison."""

    log_probs: list[np.ndarray]
    references: list[str]
    normalized: Callable[[str], str]


def tune_search(
    decoder: BeamSearch,
    held_out: HeldOut,
    alpha: Sequence[float],
    beta: Sequence[float],
    beam_width: Sequence[int],
    refinements: int,
) -> Tuning:
    """Returns the tuning of alpha, beta and the beam width, with a bar."""
    total = len(alpha) * len(beta) + 9 * refinements + len(beam_width)
    with bar("weights", total) as advance:
        return tune_weights(
            decoder,
            held_out.log_probs,
            held_out.references,
            alphas=alpha,
            betas=beta,
            widths=beam_width,
            refinements=refinements,
            normalized=held_out.normalized,
            report=lambda weights, errors: advance(1, f"WER {100 * errors.rate:.2f} % at {weights}"),
        )


def search_rates(tuning: Tuning, settings: DecodingConfig, alphabet: Alphabet, held_out: HeldOut) -> dict[str, float]:
    """Returns the word error rates of the best weights of the search, of the fewest errors, and of the oracle."""
    alpha, beta, width = tuning.best
    all_hypotheses = settings.decoder(alphabet, hypotheses=width)
    oracle = oracle_errors(all_hypotheses, held_out.log_probs, held_out.references, held_out.normalized)
    return {
        f"alpha {alpha}, beta {beta}, beam width {width}": tuning.errors(tuning.best).rate,
        "fewest of all weights tried": min(tuning.errors(weights).rate for weights in tuning.tried),
        "oracle of that beam": oracle.rate,
    }


def tune_second_pass(
    settings: DecodingConfig, rescorer: "Rescorer", alphabet: Alphabet, held_out: HeldOut, refinements: int
) -> tuple[DecodingConfig, dict[str, float]]:
    """Returns the settings with the best weights of rescoring, and the word error rates of the lists with and without it."""
    from carnelian.rescoring.rescorer import sentence_scores
    from carnelian.rescoring.tuning import SEARCH_ALONE, tune_rescoring

    config = rescorer.config
    lists = settings.decoder(alphabet, hypotheses=config.hypotheses).batch(held_out.log_probs)
    with bar("sentences") as advance:
        sentences = sentence_scores(rescorer.language_model, lists, advance)
    tuning = tune_rescoring(
        lists, sentences, held_out.references, refinements=refinements, normalized=held_out.normalized
    )
    language_weight, neural_weight, beta = tuning.best
    config = replace(config, language_weight=language_weight, neural_weight=neural_weight, beta=beta)
    if tuning.best == SEARCH_ALONE:
        note("rescoring makes no fewer errors than the search alone: its weight is 0")
    return replace(settings, rescoring=config), {
        f"lists of {config.hypotheses}, not rescored": tuning.total(SEARCH_ALONE).rate,
        f"rescored: language weight {language_weight}, rescore weight {neural_weight}, beta {beta}": tuning.total(
            tuning.best
        ).rate,
        f"oracle of {config.hypotheses} hypotheses": tuning.oracle().rate,
    }


def compute_log_probs(
    recognizer: Recognizer, manifests: list[Path], batch_seconds: float
) -> tuple[list[np.ndarray], list[str]]:
    """Returns the log-probabilities (O, V) of all utterances, and their references in the same order."""
    utterances = [utterance for manifest in manifests for utterance in Manifest(manifest)]
    if not any(utterance.text for utterance in utterances):
        raise ManifestError(f"{manifests[0]}: no utterance has a text. Give a manifest with references")
    log_probs, references = [], []
    with bar("log-probabilities", len(utterances)) as advance:
        for _, batch, rows, _ in recognizer.batches(utterances, batch_seconds=batch_seconds):
            log_probs += [emissions.log_probs for emissions in rows]
            references += [utterance.text for utterance in batch]
            advance(len(batch))
    return log_probs, references


def plot_tuning(tuning: Tuning, width: int, plot: Path) -> None:
    """Draws the word error rates of one beam width over alpha and beta."""
    rates = {weights[:2]: tuning.errors(weights).rate for weights in tuning.tried if weights[2] == width}
    plot_weights(rates, tuning.best[:2], plot)
    note(f"wrote {plot}")
