"""Adaptive softmax (Grave et al., 2017, arXiv 1609.04309) and adaptive input (Baevski and Auli, 2019, arXiv 1809.10853), tied."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError


class AdaptiveSoftmax(nn.Module):
    """Vectors of tokens, and with the same weights the log-probabilities of tokens.

    Tokens are numbered by falling frequency and cut into clusters at `cutoffs`. The softmax of the first cluster has an entry for
    each of the others besides; a token of cluster c has the probability of c times its own among those of c. The tokens of
    cluster c have vectors of D / divisor^c, and where `divisor` is above 1 a projection from and to D, which is tied too but for
    that of the first cluster.
    """

    def __init__(self, tokens: int, channels: int, cutoffs: Sequence[int] = (), divisor: int = 1):
        super().__init__()
        if list(cutoffs) != sorted(set(cutoffs)) or not all(0 < cutoff < tokens for cutoff in cutoffs):
            raise RecipeError(
                f"[model] cutoffs = {list(cutoffs)}: expected rising numbers above 0 and below the {tokens:,} tokens. Change "
                "them, or give []"
            )
        if channels < divisor ** len(cutoffs):
            raise RecipeError(f"[model] divisor = {divisor}: leaves the last of {len(cutoffs) + 1} clusters no channel")
        self.bounds, self.channels = (0, *cutoffs, tokens), channels
        sizes = [last - first for first, last in zip(self.bounds, self.bounds[1:])]
        widths = [channels // divisor**cluster for cluster in range(len(sizes))]
        self.vectors = nn.ParameterList(torch.empty(size, width) for size, width in zip(sizes, widths))
        self.biases = nn.Parameter(torch.zeros(tokens))
        self.cluster_vectors = nn.Parameter(torch.empty(len(cutoffs), widths[0]))
        self.cluster_biases = nn.Parameter(torch.zeros(len(cutoffs)))
        projections = widths if divisor > 1 else []
        self.projections = nn.ParameterList(torch.empty(channels, width) for width in projections)
        self.head_projection = nn.Parameter(torch.empty(channels, channels)) if projections else None
        for parameter in (*self.vectors, self.cluster_vectors):
            nn.init.normal_(parameter, std=0.02)
        for parameter in (
            self.projections if self.head_projection is None else (*self.projections, self.head_projection)
        ):
            nn.init.normal_(parameter, std=0.01)

    @property
    def clusters(self) -> range:
        """The numbers of the clusters."""
        return range(len(self.vectors))

    def cluster_of(self, tokens: Tensor) -> Tensor:
        """(N,) tokens -> (N,) their clusters."""
        return torch.bucketize(tokens.contiguous(), torch.tensor(self.bounds[1:-1], device=tokens.device), right=True)

    def embed(self, tokens: Tensor) -> Tensor:
        """(...) tokens -> (..., D) their vectors."""
        flat = tokens.flatten()
        if len(self.vectors) == 1 and not self.projections:
            return F.embedding(tokens, self.vectors[0])
        cluster, found = self.cluster_of(flat), self.vectors[0].new_zeros(len(flat), self.channels)
        for number in self.clusters:
            rows = (cluster == number).nonzero()[:, 0]
            own = F.embedding(flat[rows] - self.bounds[number], self.vectors[number])
            own = F.linear(own, self.projections[number]) if self.projections else own
            found = found.index_add(0, rows, own.to(found.dtype))
        return found.view(*tokens.shape, self.channels)

    def cluster_log_probs(self, encoded: Tensor, cluster: int) -> Tensor:
        """(N, D) -> log-probabilities (N, S) of a cluster's tokens within it; of the first also of the other clusters, after them."""
        first, last = self.bounds[cluster : cluster + 2]
        weight, bias = self.vectors[cluster], self.biases[first:last]
        projection = self.projections[cluster] if self.projections and cluster else self.head_projection
        if projection is not None:
            encoded = encoded @ projection
        if cluster == 0:
            weight, bias = torch.cat([weight, self.cluster_vectors]), torch.cat([bias, self.cluster_biases])
        return F.log_softmax(F.linear(encoded, weight, bias).float(), -1)

    def forward(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        """(N, D) and (N,) tokens -> (N,) log-probability of each token. Only the clusters of these tokens are computed whole."""
        cluster = self.cluster_of(tokens)
        entry = torch.where(cluster == 0, tokens, self.bounds[1] + cluster - 1)
        found = self.cluster_log_probs(encoded, 0).gather(1, entry[:, None])[:, 0]
        for number in self.clusters[1:]:  # of no rows too: each weight has a gradient in every process
            rows = (cluster == number).nonzero()[:, 0]
            own = self.cluster_log_probs(encoded[rows], number)
            found = found.index_add(0, rows, own.gather(1, (tokens[rows] - self.bounds[number])[:, None])[:, 0])
        return found

    def log_probs(self, encoded: Tensor) -> Tensor:
        """(N, D) -> (N, V) log-probabilities of all tokens."""
        head = self.cluster_log_probs(encoded, 0)
        parts = [head[:, : self.bounds[1]]]
        for number in self.clusters[1:]:
            parts.append(head[:, self.bounds[1] + number - 1, None] + self.cluster_log_probs(encoded, number))
        return torch.cat(parts, 1)
