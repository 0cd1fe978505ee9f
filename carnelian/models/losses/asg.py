"""The automatic segmentation criterion of wav2letter: every path, minus the paths that spell the target.

Collobert, Puhrsch, Synnaeve 2016, arXiv 1609.03193. Like CTC without a blank: a symbol said twice is written as the
symbol and a "replabel" that says how often it is repeated, and going from one symbol to the next has a learned score.
The scores of a step need not be normalised: a constant added to all of one step cancels, so log-probabilities do.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from carnelian.ranges import between

IMPOSSIBLE = -1e30  # instead of -inf, whose differences have no gradient


def pack_repeats(symbols: Sequence[int], first: int, repeats: int) -> list[int]:
    """A text's symbols with none twice in a row: `first + k - 1` says "the last one k more times", k <= repeats."""
    packed: list[int] = []
    previous, count = -1, 0
    for symbol in [*symbols, -1]:
        if symbol == previous and count < repeats:
            count += 1
            continue
        if count:
            packed.append(first + count - 1)
        packed.append(symbol)
        previous, count = symbol, 0
    return packed[:-1]


def unpacked(packed: Sequence[int], first: int) -> Iterator[tuple[int, int]]:
    """The symbols that `pack_repeats` packed, each with its place in `packed`; a replabel after no symbol says nothing."""
    previous = -1
    for place, symbol in enumerate(packed):
        if symbol < first:
            yield symbol, place
            previous = symbol
        elif previous >= 0:
            yield from [(previous, place)] * (symbol - first + 1)
            previous = -1


def unpack_repeats(packed: Sequence[int], first: int) -> list[int]:
    """The symbols that `pack_repeats` packed."""
    return [symbol for symbol, _ in unpacked(packed, first)]


def full_score(scores: Tensor, steps: Tensor, transitions: Tensor) -> Tensor:
    """The log-sum over all symbol sequences, (B,): scores (B, O, V), steps (B,), transitions (V, V) as [to, from]."""
    total, *following = scores.unbind(1)
    shift = transitions.detach().amax()
    factors = (transitions - shift).exp().T
    for step, emitted in enumerate(following, start=1):
        # a product of probabilities, scaled by the best path so far: what underflows is below e^-87 of it
        best = total.detach().amax(1, keepdim=True)
        grown = ((total - best).exp() @ factors).log() + (best + shift) + emitted
        total = torch.where((step < steps)[:, None], grown, total)
    return total.logsumexp(1)


def aligned_score(
    scores: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor, transitions: Tensor
) -> Tensor:
    """The log-sum over the alignments of the targets (B, L), (B,); IMPOSSIBLE where steps are fewer than symbols."""
    first, *following = scores.gather(2, targets[:, None, :].expand(-1, scores.shape[1], -1)).unbind(1)
    stay = transitions[targets, targets]
    enter = transitions[targets[:, 1:], targets[:, :-1]]
    outside = scores.new_full((len(scores), 1), IMPOSSIBLE)
    total = torch.cat([first[:, :1], outside.expand(-1, targets.shape[1] - 1)], dim=1)
    for step, emitted in enumerate(following, start=1):
        entered = torch.cat([outside, total[:, :-1] + enter], dim=1)
        grown = torch.logaddexp(total + stay, entered) + emitted
        total = torch.where((step < steps)[:, None], grown, total)
    return total.gather(1, target_lengths[:, None] - 1)[:, 0]


class ASG(nn.Module):
    """The criterion with its transitions; V symbols, of which the last `repeats` are replabels."""

    def __init__(self, symbols: int, *, repeats: Annotated[int, between(0, 16)] = 2, stay: float = 4.0):
        """`stay` starts the score of remaining in a symbol (wav2letter's transdiag); other transitions start at 0."""
        super().__init__()
        self.repeats = self.extra = repeats  # outputs besides the alphabet's symbols
        self.first = symbols - repeats
        self.transitions = nn.Parameter(stay * torch.eye(symbols))

    def encode(self, symbols: Sequence[int]) -> list[int]:
        """A text's symbols as a target."""
        return pack_repeats(symbols, self.first, self.repeats)

    def decode(self, path: Sequence[int]) -> list[int]:
        """A path of one symbol a step as a text's symbols."""
        changes = [symbol for index, symbol in enumerate(path) if index == 0 or symbol != path[index - 1]]
        return unpack_repeats(changes, self.first)

    def forward(self, scores: Tensor, steps: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The loss of each utterance (B,), in nats: scores (B, O, V), targets (B, L), symbols as they are or as `encode` packs them.

        Targets that are empty or longer than their steps have no alignment; their loss is 0, and so is their gradient.
        """
        rows = [self.encode(row[:length]) for row, length in zip(targets.tolist(), target_lengths.tolist())]
        packed = pad_sequence([torch.tensor(row or [0]) for row in rows], batch_first=True).to(scores.device)
        counts = torch.tensor([len(row) for row in rows], device=scores.device)
        with torch.autocast(scores.device.type, enabled=False):
            scores, transitions = scores.float(), self.transitions.float()
            aligned = aligned_score(scores, steps, packed, counts.clamp(min=1), transitions)
            losses = full_score(scores, steps, transitions) - aligned
        return torch.where((counts >= 1) & (counts <= steps), losses, 0.0)

    @torch.no_grad()
    def best_path(self, scores: Tensor, steps: Tensor) -> list[list[int]]:
        """The symbol sequence of the highest score for each utterance, one symbol a step (Viterbi)."""
        total, origins = scores[:, 0], []
        for step in range(1, scores.shape[1]):
            grown, origin = (total[:, None, :] + self.transitions).max(dim=2)
            going = (step < steps)[:, None]
            total = torch.where(going, grown + scores[:, step], total)
            origins.append(torch.where(going, origin, torch.arange(scores.shape[2], device=scores.device)))
        symbol = total.argmax(1)
        paths = [symbol]
        for origin in reversed(origins):
            symbol = origin.gather(1, symbol[:, None])[:, 0]
            paths.append(symbol)
        backward = torch.stack(paths[::-1], dim=1).tolist()
        return [path[: int(count)] for path, count in zip(backward, steps)]


def asg(symbols: int, *, repeats: Annotated[int, between(0, 16)] = 2, stay: float = 4.0) -> ASG:
    """Returns ASG for an alphabet of `symbols` symbols, with `repeats` replabels; `stay` as in `ASG`."""
    return ASG(symbols + repeats, repeats=repeats, stay=stay)
