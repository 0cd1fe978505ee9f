"""Recognition on the machines of a Ray cluster, by Ray Data. Imports ray."""

import logging
from typing import Any

from carnelian.commands.transcription import ListShard, Transcription
from carnelian.console import bar
from carnelian.errors import CarnelianError, MissingExtraError
from carnelian.files import one_line


class ShardTranscriber:
    """A worker: loads the recognizer once, and writes the transcripts of one shard after the other."""

    def __init__(self, call: Transcription, shards: int):
        self.call, self.shards = call, shards
        self.recognizer, self.listed = call.load(), call.listed()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """How many utterances the shard has, and how many could not be read, or an error of one line.

        A worker that takes over the shard of one that died goes on where that one was: what is finished stands in the shard's file.
        """
        try:
            count, left_out = self.call.run(self.recognizer, self.listed, ListShard(int(row["id"]) + 1, self.shards))
        except CarnelianError as error:  # which Ray would show as a page of its own frames
            return {"count": 0, "left_out": 0, "error": str(error)}
        return {"count": count, "left_out": left_out, "error": ""}


def run_on_ray(call: Transcription, utterances: int, shards: int, workers: int) -> tuple[int, int]:
    """Writes the transcripts of all shards; returns how many utterances there were, and were left out.

    workers: recognizers at work; 0: one for each processor or GPU. The cluster is that of RAY_ADDRESS, or of this machine, or is
    started here. Raises CarnelianError kinds.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray", "ray", "--engine ray") from None
    call.load()  # what is wrong with the model is said here, not by each worker
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    started = not ray.is_initialized()
    ray.init(ignore_reinit_error=True, logging_level="ERROR")
    try:
        kind = "num_gpus" if call.options.device.startswith("cuda") else "num_cpus"
        workers = workers or max(1, int(ray.cluster_resources().get(kind[4:-1].upper(), 1)))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = ray.data.range(shards, override_num_blocks=shards).map(
            ShardTranscriber,
            fn_constructor_args=(call, shards),
            compute=ray.data.ActorPoolStrategy(size=min(workers, shards)),
            **{kind: 1},
        )
        count = left_out = 0
        with bar("transcribing", utterances) as advance:
            for row in rows.iter_rows():
                if row["error"]:
                    raise CarnelianError(row["error"])
                count, left_out = count + row["count"], left_out + row["left_out"]
                advance(row["count"])
    except ray.exceptions.RayError as error:
        raise CarnelianError(one_line(f"Ray: {str(error).strip().splitlines()[-1]}. The same call goes on")) from None
    finally:
        if started:
            ray.shutdown()
    return count, left_out
