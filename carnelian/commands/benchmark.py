"""How fast things are on this machine: `carnelian benchmark training|inference|decoding|data`."""

from carnelian.commands.benchmarks.data import benchmark_data
from carnelian.commands.benchmarks.decoding import benchmark_decoding
from carnelian.commands.benchmarks.inference import benchmark_inference
from carnelian.commands.benchmarks.training import benchmark_training

BENCHMARK_VERBS = {
    "training": benchmark_training,
    "inference": benchmark_inference,
    "decoding": benchmark_decoding,
    "data": benchmark_data,
}
