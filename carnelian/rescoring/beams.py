"""Beam search in an encoder-decoder of text, all texts of a batch together, with what the decoder has computed kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from carnelian.data.alphabet import BertPieces
from carnelian.models.text.bertx2 import BertX2, DecoderState


def output_scores(model: BertX2, state: DecoderState, outputs: Tensor, lengths: Tensor) -> list[float]:
    """Returns the logarithm of the probability of each row's output (B, L), marked at both ends, with `lengths` (B,) pieces.

    The state, which has written nothing yet, stays as it is.
    """
    scores = model.advance(replace(state, past=list(state.past)), outputs[:, :-1]).float()
    chosen = scores.log_softmax(-1).gather(2, outputs[:, 1:, None]).squeeze(2)
    inside = torch.arange(1, outputs.shape[1], device=lengths.device) < lengths[:, None]
    return (chosen * inside).sum(1).tolist()


@dataclass
class TextBeams:
    """The search of one text: unfinished outputs, best first, with their scores, and the best finished one."""

    unfinished: list[list[int]]
    scores: list[float]
    finished: list[int] = field(default_factory=list)
    finished_score: float = float("-inf")

    def extend(self, candidates: Sequence[tuple[float, int, int]], end: int, width: int) -> list[int]:
        """Takes the best candidates (score, beam, piece), best first, and returns the beams that the unfinished ones come from."""
        unfinished: list[list[int]] = []
        scores, sources = [], []
        for score, beam, piece in candidates:
            if len(unfinished) == width or score <= self.finished_score:
                break
            if piece == end:
                self.finished, self.finished_score = self.unfinished[beam], score
            else:
                unfinished.append([*self.unfinished[beam], piece])
                scores.append(score)
                sources.append(beam)
        self.unfinished, self.scores = unfinished, scores
        return sources


@torch.inference_mode()
def best_outputs(
    model: BertX2, state: DecoderState, longest: Sequence[int], forbidden: Tensor, pieces: BertPieces, width: int
) -> list[tuple[list[int], float]]:
    """Returns the likeliest output that a beam search finds for each row of a state, without its marks, and the logarithm of its
    probability.

    longest: pieces of each row's output at most; one that is not finished by then counts as none, of score -inf. forbidden: outputs
    (V,) that are never written. A score only falls as an output grows: a search ends where no unfinished output has a higher one than
    the best finished.
    """
    device = forbidden.device
    texts = [TextBeams([[]], [0.0]) for _ in longest]
    rows = [(text, 0) for text in range(len(texts))]  # text and beam of each row of the state
    written = torch.full((len(rows), 1), pieces.first, device=device)
    for length in range(1, max(longest) + 2):
        scores = model.advance(state, written)[:, -1].float().log_softmax(-1).masked_fill(forbidden, float("-inf"))
        # of each row the best outputs are enough, one of which may be the end
        values, outputs = (each.tolist() for each in scores.topk(min(width + 1, scores.shape[1]), dim=1))
        candidates: list[list[tuple[float, int, int]]] = [[] for _ in texts]
        firsts: dict[int, int] = {}
        for row, (text, beam) in enumerate(rows):
            firsts.setdefault(text, row)
            so_far = texts[text].scores[beam]
            candidates[text] += [(so_far + value, beam, output) for value, output in zip(values[row], outputs[row])]
        before, kept, following = [text for text, _ in rows], [], []
        rows = []
        for text, first in firsts.items():
            beams = texts[text]
            sources = beams.extend(sorted(candidates[text], reverse=True), pieces.last, width)
            if length > longest[text]:
                continue
            kept += [first + source for source in sources]
            following += [output[-1] for output in beams.unfinished]
            rows += [(text, beam) for beam in range(len(beams.unfinished))]
        if not rows:
            break
        # what was read is the same for the beams of a text, and need not be moved while all texts have as many of them
        move = state.reorder if before == [text for text, _ in rows] else state.select
        move(torch.tensor(kept, device=device))
        written = torch.tensor(following, device=device)[:, None]
    return [(text.finished, text.finished_score) for text in texts]
