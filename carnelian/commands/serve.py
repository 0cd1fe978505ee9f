"""A recognizer as a service: `carnelian serve MODEL`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from carnelian.commands.options import VOICE_ACTIVITY_HELP, RecognizerOptions
from carnelian.data.transcript import Transcript
from carnelian.decoding.settings import is_asg
from carnelian.errors import CarnelianError
from carnelian.inference.live_stream import SegmentStream, is_fed
from carnelian.inference.long_audio import decoding_stream
from carnelian.inference.recognizer import Recognizer
from carnelian.jit import has_numba
from carnelian.serving.config import ServingConfig
from carnelian.serving.logs import log
from carnelian.serving.service import ServedModel, Service

LOOPBACK = ("127.0.0.1", "::1", "localhost")
KEYS_VARIABLE = "CARNELIAN_API_KEYS"
HOT_WORD_WEIGHT = 10.0  # of the words that a client expects


def serve(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    *,
    host: Annotated[str, "address to listen on"] = "127.0.0.1",
    port: Annotated[int, "port to listen on; 0: any that is free"] = 8000,
    api_keys: Annotated[Path | None, f"a file with an API key on each line; or {KEYS_VARIABLE}=KEY,KEY"] = None,
    without_keys: Annotated[bool, "let everybody in who reaches the address"] = False,
    wyoming: Annotated[int | None, "port for the Wyoming protocol (Home Assistant expects 10300)"] = None,
    name: Annotated[str, "name of the model to clients; by default that of the file"] = "",
    language: Annotated[str, "language of the model, as clients are told"] = "en",
    grace: Annotated[float, "seconds that accepted requests may still take after SIGTERM"] = 60.0,
    log_transcripts: Annotated[bool, "write transcripts into the log"] = False,
    voice_activity: Annotated[str, VOICE_ACTIVITY_HELP] = "energy",
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    config: ServingConfig = ServingConfig(),  # noqa: B008
) -> None:
    """Serve a recognizer: a page at /, OpenAI's transcription API, live recognition, health and metrics.

    Example: carnelian serve runs/an4 --port 8000
    """
    keys = read_keys(api_keys)
    if host not in LOOPBACK and not keys and not without_keys:
        raise CarnelianError(
            f"--host {host}: other machines could use the service, and there is no API key. "
            f"Give --api-keys FILE or set {KEYS_VARIABLE}; or --without-keys, to let everybody in"
        )
    if host not in LOOPBACK and wyoming is not None and not without_keys:
        raise CarnelianError(
            f"--wyoming {wyoming}: the Wyoming protocol knows no keys, and other machines could use it. "
            "Listen on 127.0.0.1, or give --without-keys"
        )
    from carnelian.serving.app import make_app  # these two raise MissingExtraError
    from carnelian.serving.server import run_server

    recognizer, ahead = options.load(model, voice_activity), config.max_ahead_seconds
    served = served_model(recognizer, options, name=name or model.stem, language=language, longest_wait=ahead)
    if not has_numba():
        log("warning", 'expected words are not searched for. Run: pip install "carnelian[serve,search]"')
    service = Service(served, config)
    app = make_app(service, keys=keys, log_transcripts=log_transcripts)
    run_server(app, service, host=host, port=port, wyoming=wyoming, grace=grace)


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Returns the API keys of a file, or of the environment where no file is given."""
    if path is None:
        return tuple(key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip())
    try:
        keys = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise CarnelianError(
            f"--api-keys {path}: cannot be read ({error}). Give a file with a key on each line"
        ) from None
    if not keys:
        raise CarnelianError(f"--api-keys {path}: there is no key in it. Write a key on each line")
    return keys


def served_model(
    recognizer: Recognizer,
    options: RecognizerOptions,
    *,
    name: str,
    language: str = "en",
    longest_wait: float = ServingConfig().max_ahead_seconds,
) -> ServedModel:
    """Returns a recognizer in the form the service takes. A model that sees at most `longest_wait` ahead is fed with live audio."""
    alphabet, decoder = recognizer.alphabet, recognizer.decoder
    searches = has_numba() and not is_asg(recognizer.engine.criterion)
    search: Any = decoder if hasattr(decoder, "weighed") else None
    if searches and search is None:  # for expected words; made at once, because it may have to be compiled
        from carnelian.decoding.beam import BeamSearch

        search = BeamSearch(alphabet, beta=0.0, beam_width=options.config().beam_width)

    def weights(words: tuple[str, ...]) -> dict[str, float]:
        return options.hot_words | dict.fromkeys(words, HOT_WORD_WEIGHT)

    def decode(log_probs: np.ndarray, words: tuple[str, ...]):
        return search(log_probs, weights(words)) if words else decoder(log_probs)

    def stream(words: tuple[str, ...]) -> SegmentStream:
        def decoding() -> Any:
            return search.stream(weights(words)) if words else decoding_stream(decoder)

        return SegmentStream(recognizer.engine, decoding)

    def recognize(audio: Sequence[np.ndarray], hot_words: Sequence[tuple[str, ...]]) -> list[Transcript]:
        rows = recognizer.emissions(audio)
        decoded = (decode(emissions.log_probs, words) for emissions, words in zip(rows, hot_words))
        return recognizer.corrected(list(map(recognizer.transcript, decoded, rows, audio)))

    def known_words(phrases: list[str]) -> tuple[str, ...]:
        spelled = (phrase if not alphabet.unknown(phrase) else phrase.lower() for phrase in phrases)
        words = {word for phrase in spelled for word in phrase.split()}
        return tuple(sorted(word for word in words if searches and not alphabet.unknown(word)))

    fed = is_fed(recognizer.engine, longest_wait) and recognizer.time_stretches == (1.0,)
    return ServedModel(
        name,
        recognizer.sample_rate,
        recognize,
        alphabet.encode,
        known_words,
        language,
        options.batch_seconds,
        stream if fed else None,
    )
