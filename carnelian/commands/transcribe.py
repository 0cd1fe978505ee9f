"""Transcripts of recordings: `carnelian transcribe MODEL FILES|FOLDER|MANIFEST...`."""

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from carnelian.commands.live_transcription import LiveOptions, transcribe_live
from carnelian.commands.options import RecognizerOptions
from carnelian.commands.transcript_output import OutputOptions
from carnelian.commands.transcription import Transcription, parse_shard
from carnelian.errors import AudioError, CarnelianError

CHANNEL_HELP = "of recordings with several: 1, 2, ..., mix (the average), or separate (a speaker on each)"
SHARD_HELP = (
    "i/n: only the i-th of n parts of the list, to a file of the folder --out; what is finished is not done again"
)
ENGINE_HELP = "ray: all parts of the list on the machines of a Ray cluster; needs the folder --out on all of them"


def transcribe(
    model: Annotated[Path, "a checkpoint, a run's folder for its last one, or an exported .onnx model"],
    sources: Annotated[
        list[Path], "recordings, folders of recordings, manifests (.jsonl, .json), or - for standard input"
    ],
    *,
    output: OutputOptions = OutputOptions(),  # noqa: B008
    channels: Annotated[str, CHANNEL_HELP] = "mix",
    long_seconds: Annotated[float, "a longer recording is recognized in chunks, in flat memory"] = 300.0,
    shard: Annotated[str, SHARD_HELP] = "",
    engine: Annotated[str, ENGINE_HELP] = "",
    workers: Annotated[int, "with --engine ray: recognizers at work; 0: one for each processor or GPU"] = 0,
    options: RecognizerOptions = RecognizerOptions(),  # noqa: B008
    live_options: LiveOptions = LiveOptions(),  # noqa: B008
) -> None:
    """Write down what recordings say. A recording that cannot be read is named and left out; the exit code is then 2.

    Transcripts are written as they come; those of a call that was stopped are kept, in FILE.partial or in the folder, and the same
    call with --resume goes on. Of a long recording that was stopped, the same call goes on from its finished part. Times are those
    of the recording, also for the segments of a manifest. With --live: arecord -f S16_LE -r 16000 -t raw | carnelian transcribe
    runs/an4 --live -

    Example: carnelian transcribe runs/an4 recording.wav --format srt
    """
    from carnelian.data.sources import channel_choice  # here: --help must not wait for numpy

    if live_options.live and options.correct:
        raise CarnelianError("--correct: has no effect with --live, whose words are final when they come. Leave it out")
    if live_options.live:
        return transcribe_live(options.load(model), sources, output.format, live_options)
    channel_choice(channels)  # raises AudioError
    if shard or engine:
        many = Transcription(model, tuple(sources), output, channels, long_seconds, options)
        return transcribe_shards(many, shard, engine, workers)
    output.check()
    recognizer = options.load(model, output.used_activity)
    with ExitStack() as stack:
        paths = tuple(stdin_recording(stack) if str(source) == "-" else source for source in sources)
        names = {str(path): "stdin" for path, source in zip(paths, sources) if str(source) == "-"}
        call = Transcription(model, paths, output, channels, long_seconds, options, names)
        report(*call.run(recognizer, call.listed()))


def transcribe_shards(call: Transcription, shard: str, engine: str, workers: int) -> None:
    """One part of the list on this machine, or all parts on those of a Ray cluster."""
    if engine not in ("", "ray"):
        raise CarnelianError(f"--engine {engine}: not known. Known: ray")
    if (shard and engine) or Path("-") in call.sources or call.output.overwrite or workers < 0:
        raise CarnelianError(
            "--shard, --engine ray: one of them, with recordings or manifests, without --overwrite, and 0 or more --workers"
        )
    listed = call.listed()
    if engine:
        from carnelian.commands.ray_engine import run_on_ray

        call.claim_folder(listed, call.shard_count(listed))
        report(*run_on_ray(call, len(listed), call.shard_count(listed), workers))
        return
    part = parse_shard(shard)
    call.claim_folder(listed, part.count)
    report(*call.run(call.load(), listed, part))


def report(count: int, left_out: int) -> None:
    """Raises AudioError where recordings were left out."""
    if left_out:
        raise AudioError(f"{left_out} of {count} recordings left out, for the reasons above")


def stdin_recording(stack: ExitStack) -> Path:
    """The recording on standard input, as a file that is there until the stack closes."""
    content = sys.stdin.buffer.read()
    if not content:
        raise AudioError("standard input: nothing came. Give a recording: carnelian transcribe MODEL - < a.wav")
    path = Path(stack.enter_context(TemporaryDirectory()), "stdin")
    path.write_bytes(content)
    return path
