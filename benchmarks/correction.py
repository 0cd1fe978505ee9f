"""Speed of a corrector's search: with what the decoder has computed kept, beside computing all anew at each piece.

    python benchmarks/correction.py BERT_FOLDER RESULTS.jsonl [--texts 64] [--repeats 3]

The corrector has the BERT's sizes and weights, untrained for correction: its outputs are held to the lengths of the texts.
Processor time of all threads, the lowest of the repeats, which alternate; texts are in one batch. Both ways give the same outputs.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carnelian.data.batch import padded
from carnelian.data.text.pairs import iterate_pairs
from carnelian.formats.bert import read_bert
from carnelian.models.text.bert import BertConfig
from carnelian.models.text.bertx2 import BertX2, DecoderState, bertx2_weights
from carnelian.rescoring.beams import best_outputs
from carnelian.rescoring.correction import Corrector


@dataclass
class WrittenState:
    """What was read, encoded, and what was written so far, of which nothing that the decoder computed is kept."""

    read: DecoderState
    written: Tensor

    def reorder(self, rows: Tensor) -> None:
        self.written = self.written[rows]

    def select(self, rows: Tensor) -> None:
        self.reorder(rows)
        self.read.select(rows)


class Anew:
    """A corrector whose decoder computes all that was written anew at each piece."""

    def __init__(self, model: BertX2):
        self.model = model

    def advance(self, state: WrittenState, written: Tensor) -> Tensor:
        state.written = torch.cat([state.written, written], dim=1)
        fresh = replace(state.read, past=[None] * len(state.read.past), position=0)
        return self.model.advance(fresh, state.written)


def processor_seconds(work: Callable[[], object]) -> float:
    before = os.times()
    work()
    after = os.times()
    return after.user + after.system - before.user - before.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bert", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    bert = read_bert(asked.bert)
    model = BertX2(len(bert.pieces), BertConfig(**bert.sizes)).eval()
    model.load_state_dict(bertx2_weights(bert.weights))
    corrector = Corrector(model, bert.pieces)
    texts = [pair.hypothesis for pair in iterate_pairs(asked.results)][: asked.texts]
    pieces = bert.pieces
    sources = [np.array([pieces.first, *pieces.encode(text), pieces.last], np.int64) for text in texts]
    read, lengths = padded(sources)
    longest = [len(source) - 2 for source in sources]
    forbidden = corrector.forbidden(torch.device("cpu"))

    def kept(width: int) -> object:
        return best_outputs(model, model.read(read, lengths), longest, forbidden, pieces, width)

    def anew(width: int) -> object:
        state = WrittenState(model.read(read, lengths), read[:, :0])
        return best_outputs(Anew(model), state, longest, forbidden, pieces, width)  # type: ignore[arg-type]

    with torch.inference_mode():
        for width in (1, 4):
            assert [output for output, _ in kept(width)] == [output for output, _ in anew(width)]  # type: ignore[attr-defined]
            times: dict[str, list[float]] = {"kept": [], "anew": []}
            for _ in range(asked.repeats):
                times["kept"].append(processor_seconds(partial(kept, width)))
                times["anew"].append(processor_seconds(partial(anew, width)))
            best = {name: min(values) for name, values in times.items()}
            print(
                f"beam {width}: {len(texts)} texts of {sum(longest) / len(texts):.1f} pieces, processor seconds: "
                f"kept {best['kept']:.2f} ({1000 * best['kept'] / len(texts):.0f} ms a text), anew {best['anew']:.2f}, "
                f"{best['anew'] / best['kept']:.1f} times as long; {torch.backends.cpu.get_cpu_capability()}, "
                f"{torch.get_num_threads()} threads, {time.strftime('%Y-%m-%d')}"
            )


if __name__ == "__main__":
    main()
