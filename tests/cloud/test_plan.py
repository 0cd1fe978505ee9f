"""The plan: machines, memory, hours and dollars, held against what NVIDIA published of whole trainings."""

import math
from datetime import date
from pathlib import Path

import pytest

from carnelian.cloud.machines import load_catalogue
from carnelian.cloud.plan import Demand, measure_demand, plan_row, plan_rows, recommend
from carnelian.errors import CloudError
from carnelian.recipe import load_recipe

CATALOGUE = load_catalogue()


def demand_of(recipe: str, *changes: str, hours: float = 960.0) -> Demand:
    return measure_demand(load_recipe(recipe, changes), hours)


@pytest.mark.parametrize(
    "recipe, epochs, hours",
    [("librispeech/quartznet15x5", 260, 34.0), ("librispeech/jasper10x5dr", 440, 70.0)],
)
def test_hours_agree_with_nvidias_whole_trainings(recipe, epochs, hours):
    """8 x A100 80 GB, the machine p4de: DeepLearningExamples' tables of accuracy tell how long the whole training took."""
    demand = demand_of(recipe, f"train.epochs={epochs}")
    row = plan_row(demand, CATALOGUE, CATALOGUE.machine("p4de.24xlarge"), 1)
    assert row.source == "published" and row.hours == pytest.approx(hours, rel=0.15)


def test_memory_grows_with_the_batch_and_decides_what_fits():
    small, large = (demand_of("librispeech/jasper10x5dr", f"train.batch_size={size}") for size in (8, 512))
    assert large.gib > 8 * small.gib
    t4 = CATALOGUE.machine("g4dn.xlarge")
    assert plan_row(small, CATALOGUE, t4, 1).accumulate == 1
    row = plan_row(large, CATALOGUE, t4, 1)
    assert row.accumulate > 1 and row.fits and row.gib <= 0.9 * t4.gpu_gib


def test_weights_larger_than_a_gpu_do_not_fit_by_any_batch():
    demand = Demand(
        "other",
        fixed_gib=30.0,
        gib_per_second=0.01,
        batch_seconds=100,
        audio_hours=10,
        million_multiply_adds=1e3,
        activation_megabytes=20,
    )
    row = plan_row(demand, CATALOGUE, CATALOGUE.machine("g6.xlarge"), 1)
    assert not row.fits
    assert all(each.fits for each in recommend(plan_rows(demand, CATALOGUE)) if each)


def test_a_measured_speed_replaces_the_published_one():
    demand = demand_of("librispeech/quartznet15x5")
    row = plan_row(demand, CATALOGUE, CATALOGUE.machine("g6.xlarge"), 1, speed=1000.0)
    assert row.source == "measured" and row.hours == pytest.approx(0.25 + demand.audio_hours / 1000.0)


def test_a_capacity_block_is_whole_days_less_what_is_lost_at_its_end():
    machine = CATALOGUE.machine("p5.48xlarge")

    def block(hours: float):
        speed = 1000.0
        demand = Demand("other", 1, 0.001, 100, (hours - 0.25) * speed * 8 * CATALOGUE.scaling["within_8"], 1e3, 20)
        return plan_row(demand, CATALOGUE, machine, 1, speed=speed)

    assert block(23.0).block_days == 1 and block(23.0).capacity_block == pytest.approx(24 * machine.capacity_block)
    assert block(23.5).block_days == 2  # 40 minutes before its end the training has stopped
    assert block(14 * 24.0).block_days == 21  # above two weeks, whole weeks
    assert block(200 * 24.0).capacity_block is None


def test_recommendations_respect_budget_and_time():
    rows = plan_rows(demand_of("librispeech/quartznet15x5"), CATALOGUE)
    small, large = recommend(rows)
    assert small and small.gpus == 1 and large and large.gpus >= 8 and large.hours <= 24
    assert recommend(rows, budget=1.0) == (None, None)
    _, within = recommend(rows, budget=1400.0)
    assert within and within.cheapest <= 1400.0


def test_prices_of_another_day_replace_the_files():
    today = date(2026, 12, 1)
    fresh = CATALOGUE.with_prices({"g6.xlarge": {"on_demand": 0.9, "spot": 0.3}}, "eu-west-1", today)
    machine = fresh.machine("g6.xlarge")
    assert (machine.on_demand, machine.spot, fresh.region, fresh.dated) == (0.9, 0.3, "eu-west-1", today)
    assert fresh.machine("g5.xlarge").on_demand is None  # not offered there
    row = plan_row(demand_of("an4/quartznet", hours=0.6), fresh, fresh.machine("g5.xlarge"), 1)
    assert row.on_demand is None and row.cheapest == math.inf


@pytest.mark.parametrize(
    "image, today, warned",
    [
        ("oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04", date(2026, 10, 15), True),
        ("oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04", date(2026, 10, 14), False),
        ("oss-nvidia-driver-gpu-pytorch-2.13-amazon-linux-2023", date(2026, 11, 25), False),
        ("base-oss-nvidia-driver-amazon-linux-2", date(2026, 11, 25), True),
    ],
)
def test_images_without_patches_are_warned_of(image, today, warned):
    assert bool(CATALOGUE.warn_of(image, today)) == warned


def test_the_machines_are_what_the_published_tables_say():
    """EC2's own figures, as FACTS and karpenter's generated tables have them; a slip of the pen in the file would show."""
    known = {
        "g5.xlarge": (1, 22.35),
        "g6e.48xlarge": (8, 44.7),
        "p4d.24xlarge": (8, 40.0),
        "p5.48xlarge": (8, 80.0),
        "p5en.48xlarge": (8, 141.0),
    }
    for type, (gpus, gib) in known.items():
        assert (CATALOGUE.machine(type).gpus, CATALOGUE.machine(type).gpu_gib) == (gpus, gib)
    assert all(machine.gpu in CATALOGUE.bandwidth for machine in CATALOGUE.machines)
    with pytest.raises(CloudError, match=r"Did you mean 'p4d"):
        CATALOGUE.machine("p4.24xlarge")


def test_no_hours_of_audio_and_no_acoustic_recipe_are_one_line():
    with pytest.raises(CloudError, match="--hours-of-audio 0"):
        demand_of("an4/quartznet", hours=0)
    with pytest.raises(CloudError, match=r"no .encoder."):
        measure_demand({"train": {}}, 10)


def test_the_files_are_package_data():
    folder = Path(__file__).resolve().parent.parent.parent / "carnelian" / "cloud"
    wanted = {"small.yaml", "network.yaml", "cluster.yaml", "boot.sh", "train.sbatch", "head_node.sh", "skypilot.yaml"}
    assert wanted <= {path.name for path in (folder / "templates").iterdir()}
