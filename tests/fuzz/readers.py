"""Every reader of a file that a user may give, by the kind of file, and a small whole file of each kind to mutate."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from nist_files import NIST_FILES  # type: ignore[import-not-found]

from carnelian.benchmarking.results import (
    BenchmarkRow,
    BenchmarkRun,
    compare_benchmarks,
    run_as_dict,
    run_in_markdown,
)
from carnelian.benchmarking.results import read_run as read_benchmark_run
from carnelian.benchmarking.rounds import Timings
from carnelian.checkpoint import Checkpoint, load_model, save_checkpoint
from carnelian.commands.check import check_audio, read_manifest_lines
from carnelian.commands.info import info
from carnelian.corpora.folder import folder
from carnelian.data.alphabet import Alphabet, BertPieces, make_alphabet
from carnelian.data.audio import load_audio
from carnelian.data.recording import open_audio
from carnelian.data.shards import Shard
from carnelian.data.text.pairs import read_results
from carnelian.data.text.text_files import read_corpus_lines, read_lines
from carnelian.data.utterance import Manifest, Utterance
from carnelian.decoding.settings import read_decoding
from carnelian.errors import CarnelianError
from carnelian.formats.bert import read_vocabulary
from carnelian.formats.detect import import_model
from carnelian.formats.nemo.configuration import configuration_text, read_configuration
from carnelian.models.registry import build_model
from carnelian.ngram.binary import save_binary
from carnelian.ngram.load import load_language_model
from carnelian.recipe import load_recipe
from carnelian.rescoring.correction import Corrector, build_corrector
from carnelian.training.resume import check_recipe_of_run
from carnelian.training.run import load_state, read_scores, state_path

RATE = 16000
RECIPE = {
    "task": "acoustic",
    "alphabet": " ab",
    "features": {"name": "log_mel", "features": 8},
    "encoder": {"name": "convolutional", "blocks": [{"channels": 8, "kernel": 5, "stride": 2}]},
}
TOML = """# a comment
task = "acoustic"
alphabet = " ab"
seed = 1
[train]
manifests = ["a.jsonl"]
steps = 10
batch_seconds = 10.5
[features]
name = "log_mel"
features = 8
[encoder]
name = "convolutional"
blocks = [{ channels = 8, kernel = 5, stride = 2 }]
[optimizer]
name = "novograd"
[schedule]
name = "cosine"
peak = 0.01
"""
ARPA = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-2.0\t<unk>
-99\t<s>\t-0.3
-0.7\t</s>
-0.4\ta\t-0.2

\\2-grams:
-0.3\t<s> a
-0.5\ta a
-0.2\ta </s>

\\end\\
"""
NEMO = {
    "nemo_version": "1.0.0",
    "sample_rate": RATE,
    "labels": [" ", "a", "b"],
    "preprocessor": {"_target_": "x.AudioToMelSpectrogramPreprocessor", "features": 64, "window_size": 0.02},
    "encoder": {
        "_target_": "x.ConvASREncoder",
        "feat_in": 64,
        "activation": "relu",
        "jasper": [
            {
                "filters": 8,
                "repeat": 1,
                "kernel": [5],
                "stride": [1],
                "dilation": [1],
                "dropout": 0.0,
                "residual": False,
            }
        ],
    },
    "decoder": {"_target_": "x.ConvASRDecoder", "feat_in": 8, "num_classes": 3, "vocabulary": [" ", "a", "b"]},
}


class Reader(NamedTuple):
    """How a kind of file is read, its suffix, and whole files of it."""

    read: Callable[[Path], object]
    suffix: str
    seeds: Callable[[], list[bytes]]


def coded(**how: object) -> bytes:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    soundfile.write(file, 0.1 * rng.standard_normal(4000), RATE, **how)
    return file.getvalue()


def audio_seeds() -> list[bytes]:
    formats = [{"format": name} for name in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "NIST", "CAF", "W64")]
    return [
        coded(**each)
        for each in [*formats, {"format": "OGG", "subtype": "OPUS"}, {"format": "WAV", "subtype": "GSM610"}]
    ]


def read_audio(path: Path) -> None:
    with open_audio(path):
        pass
    for utterance in (Utterance(str(path), 0.0), Utterance(str(path), 0.05, offset=0.1)):
        try:
            load_audio(utterance, RATE)
        except CarnelianError:
            if utterance.offset == 0:
                raise


def read_listed(path: Path) -> None:
    list(folder(path)[path.stem])


def read_manifest_file(path: Path) -> None:
    for line in read_manifest_lines(path):
        check_audio(line)
    list(Manifest(path))


def manifest_seeds() -> list[bytes]:
    lines = [
        {"audio_filepath": "a.wav", "duration": 1.5, "text": "a b", "offset": 0.5, "channel": 1, "speaker": "x"},
        {"audio_filepath": "s.tar/b.flac", "duration": 2, "transcript": "c", "shard_id": 3},
    ]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


def checkpoint_seeds() -> list[bytes]:
    import tempfile

    alphabet = Alphabet(RECIPE["alphabet"])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "a.safetensors")
        save_checkpoint(path, Checkpoint(build_model(RECIPE, alphabet).state_dict(), alphabet, RECIPE, 3, {}))
        return [path.read_bytes()]


def read_checkpoint(path: Path) -> None:
    load_model(path)
    info(path, json_output=True)


def nemo_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    norm = {name: torch.rand(8) for name in ("weight", "bias", "running_mean", "running_var")}
    weights = {"encoder.encoder.0.mconv.0.conv.weight": torch.rand(8, 64, 5)}
    weights |= {f"encoder.encoder.0.mconv.1.{name}": value for name, value in norm.items()}
    weights["encoder.encoder.0.mconv.1.num_batches_tracked"] = torch.tensor(3)
    return weights | {
        "decoder.decoder_layers.0.weight": torch.rand(4, 8, 1),
        "decoder.decoder_layers.0.bias": torch.rand(4),
    }


def saved(content: object, **how: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def archive(files: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def nemo_seeds() -> list[bytes]:
    files = {"./model_config.yaml": configuration_text(NEMO), "./model_weights.ckpt": saved(nemo_weights())}
    return [archive(files), archive(files, "w:gz")]


def lightning_seeds() -> list[bytes]:
    content = {"state_dict": nemo_weights(), "hyper_parameters": {"cfg": NEMO}, "epoch": 3}
    return [saved(content), saved(content, _use_new_zipfile_serialization=False)]


def pickle_seeds() -> list[bytes]:
    wav2vec = {"model": {"a": torch.rand(3)}, "args": {"arch": "wav2vec", "conv_feature_layers": "[(8, 10, 5)]"}}
    examples = {"state_dict": nemo_weights(), "best_wer": 3.0, "ema_state_dict": nemo_weights()}
    return [
        saved(content, _use_new_zipfile_serialization=new) for content in (wav2vec, examples) for new in (True, False)
    ]


def read_foreign(path: Path) -> None:
    import_model(path, path.with_name("imported.safetensors"))


def shard_seeds() -> list[bytes]:
    return [archive({"0-a.wav": coded(format="WAV"), "0-a.json": b'{"text": "a"}'})]


def read_shard(path: Path) -> None:
    from carnelian.commands.shard import describe_shards

    shard = Shard(str(path))
    for name in shard.members:
        shard.read(name)
    list(describe_shards(str(path), 0))


def read_run(path: Path) -> None:
    """A run's folder in which recipe.json and scores.json are the file."""
    for name in ("recipe.json", "scores.json"):
        path.with_name(name).write_bytes(path.read_bytes())
    read_scores(path.parent)
    check_recipe_of_run(path.parent, RECIPE, allow_changes=True)


def benchmark_seeds() -> list[bytes]:
    times = Timings(np.full((2, 3), 0.5), np.full((2, 3), 0.25))
    row = BenchmarkRow({"model": "m", "batch": 1}, times, {"utterances": 1.0}, {"WER %": 1.0})
    machine = {"processor": "x", "cores": 2, "load": 1.0}
    run = BenchmarkRun("inference", "benchmark", "abc", "2026-11-30", machine, [row], [{"wall": 1.0, "processor": 1.0}])
    return [json.dumps(run_as_dict(run)).encode()]


def read_benchmark(path: Path) -> None:
    run = read_benchmark_run(path)
    run_in_markdown(run, "wall", compare_benchmarks(run, run, "wall")[0])


def state_seeds() -> list[bytes]:
    from safetensors.torch import save

    return [save({"a": torch.zeros(3)}, {"state": json.dumps({"step": 3, "seed": 1, "epoch": 0})})]


def read_state(path: Path) -> None:
    state = state_path(path.parent, 1)
    state.write_bytes(path.read_bytes())
    load_state(path.parent, 1)


def pieces_seeds() -> list[bytes]:
    from carnelian.data.alphabet import learn_pieces

    return [learn_pieces(["a b ab ba", "ab ab ba", "b b a"] * 5, 6, "unigram").model]


def corrector_seeds() -> list[bytes]:
    import tempfile

    recipe = {
        "task": "corrector",
        "corrector": {"channels": 4, "layers": 1, "heads": 1, "feedforward": 4, "positions": 4, "dropout": 0.1},
    }
    pieces = BertPieces(VOCABULARY.split())
    model = build_corrector(recipe, pieces)
    notes = {"correction": {"threshold": 0.5}, "characters": " ab", "longest": 3}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "corrector.safetensors")
        save_checkpoint(path, Checkpoint(model.state_dict(), pieces, recipe, 1, notes))
        return [path.read_bytes()]


def read_corrector(path: Path) -> None:
    Corrector.load(path, device="cpu")(["a b"])


def binary_seeds() -> list[bytes]:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "a.arpa")
        path.write_text(ARPA)
        save_binary(load_language_model(path), Path(place, "a.bin"))
        return [Path(place, "a.bin").read_bytes()]


def read_model(path: Path) -> None:
    model = load_language_model(path)
    model.score("a b")


def read_texts(path: Path) -> None:
    list(read_lines(path))
    read_corpus_lines(path)


def read_toml(path: Path) -> None:
    load_recipe(path)
    info(path, json_output=True)


def read_yaml(path: Path) -> None:
    read_configuration(path, path.read_bytes())


def sphere_seeds() -> list[bytes]:
    head = "NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i 400\nsample_rate -i 8000\nsample_n_bytes -i 1\n"
    texts = [
        f"{head}sample_coding -s{len(name)} {name}\nend_head\n"
        for name in ("pculaw", "pcm,embedded-shorten-v2.00", "ulaw")
    ]
    body = bytes(range(256)) * 2
    return [text.encode().ljust(1024) + (b"ajkg\2" if "shorten" in text else b"") + body for text in texts]


def gzipped_seeds() -> list[bytes]:
    import gzip

    return [ARPA.encode(), gzip.compress(ARPA.encode(), mtime=0)]


VOCABULARY = "[PAD] [UNK] [CLS] [SEP] a b ##a"
LIST = 'path,text,offset,duration,channel,speaker\na.wav,"yes, ""please""",0.5,1.0,1,x\nb.wav,no,,,2,y\n'
RESULTS = "".join(json.dumps({"text": "a b", "hypothesis": each, "speaker": "x"}) + "\n" for each in ("a b", "a"))
DECODING = 'language_model = "a.bin"\nalpha = 0.5\nbeta = 1.0\nbeam_width = 64\nclosed_vocabulary = false\ntime_stretches = [1.0]\n'

READERS = {
    "audio": Reader(read_audio, ".wav", audio_seeds),
    "sphere": Reader(read_audio, ".sph", sphere_seeds),
    "manifest": Reader(read_manifest_file, ".jsonl", manifest_seeds),
    "csv": Reader(
        read_listed, ".csv", lambda: [LIST.encode(), LIST.encode("utf-16"), LIST.replace("no", "où").encode("cp1252")]
    ),
    "tsv": Reader(read_listed, ".tsv", lambda: [LIST.replace(",", "\t").encode()]),
    "recipe": Reader(read_toml, ".toml", lambda: [TOML.encode()]),
    "decoding": Reader(read_decoding, ".toml", lambda: [DECODING.encode()]),
    "results": Reader(read_results, ".jsonl", lambda: [RESULTS.encode()]),
    "text": Reader(read_texts, ".txt", lambda: ["one two\ndrei où\n".encode(), gzipped_seeds()[1]]),
    "arpa": Reader(read_model, ".arpa", gzipped_seeds),
    "binary": Reader(read_model, ".bin", binary_seeds),
    "checkpoint": Reader(read_checkpoint, ".safetensors", checkpoint_seeds),
    "state": Reader(read_state, ".safetensors", state_seeds),
    "benchmark": Reader(read_benchmark, ".json", benchmark_seeds),
    "run": Reader(read_run, ".json", lambda: [json.dumps(RECIPE).encode(), b'{"100": 0.25, "200": 0.125}']),
    "nemo": Reader(read_foreign, ".nemo", nemo_seeds),
    "ckpt": Reader(read_foreign, ".ckpt", lightning_seeds),
    "pt": Reader(read_foreign, ".pt", pickle_seeds),
    "yaml": Reader(read_yaml, ".yaml", lambda: [configuration_text(NEMO)]),
    "vocabulary": Reader(read_vocabulary, ".txt", lambda: ["\n".join(VOCABULARY.split()).encode()]),
    "corrector": Reader(read_corrector, ".safetensors", corrector_seeds),
    "pieces": Reader(lambda path: make_alphabet(str(path)), ".model", pieces_seeds),
    "shard": Reader(read_shard, ".tar", shard_seeds),
    **{
        kind: Reader(read, suffix, lambda text=text: [text.encode()])  # type: ignore[misc]
        for kind, (read, suffix, text) in NIST_FILES.items()
    },
}


#: the kind of a damaged file, by the first part of its name
CASES = {
    **{name: name for name in READERS},
    **dict.fromkeys(["carnelian", "farshort", "full", "loop", "nan", "tree"], "binary"),
    **{
        "big": "checkpoint",
        "d": "arpa",
        "shn2": "sphere",
        "shorten": "sphere",
        "wav": "audio",
        "sentencepiece": "pieces",
    },
    **{"tar": "shard", "s": "text", "compare": "results"},
}


def inputs(kind: str, first: int, last: int) -> Iterator[bytes]:
    """The mutated files `first` to `last` of a kind; always the same."""
    from mutate import mutated  # type: ignore[import-not-found]

    seeds = READERS[kind].seeds()
    for number in range(first, last):
        rng = np.random.default_rng([number, *kind.encode()])
        yield mutated(seeds[number % len(seeds)], rng)
