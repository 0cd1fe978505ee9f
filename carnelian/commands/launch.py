"""The verb `launch`: training on AWS, from the choice of a machine to taking everything down again."""

import math
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from carnelian import console
from carnelian.cloud import lifecycle
from carnelian.cloud.account import account_number, current_prices, region_of
from carnelian.cloud.large import ClusterLaunch, ClusterOptions, launch_cluster, stop_cluster
from carnelian.cloud.machines import load_catalogue
from carnelian.cloud.small import (
    Launch,
    MachineOptions,
    check_manifests,
    find_stack,
    stack_name,
    start_machine,
    stop_machine,
)
from carnelian.cloud.storage import bucket_name
from carnelian.errors import CloudError
from carnelian.recipe import load_recipe

if TYPE_CHECKING:
    from carnelian.cloud.plan import Row


def plan_training(
    recipe: Annotated[Path, "the recipe to be trained"],
    *,
    hours_of_audio: Annotated[float, "hours of the training manifests, such as 960 for LibriSpeech"],
    budget: Annotated[float, "$ that the training may cost; 0: any"] = 0.0,
    set: Annotated[list[str], "a change to the recipe, such as train.batch_size=16; may be given again"] = [],  # noqa: B006
    speed: Annotated[float, "seconds of audio that one GPU trains on in a second, where you measured it"] = 0.0,
    image: Annotated[str, "the Deep Learning AMI, to be warned of one without patches"] = "",
    region: Annotated[str, "region of AWS, for --refresh"] = "",
    refresh: Annotated[bool, "ask the price list and the spot prices of the account's region"] = False,
) -> None:
    """Compare machines for a recipe: memory, hours, dollars; recommend a small and a large one.

    Example: carnelian launch plan librispeech/quartznet15x5 --hours-of-audio 960 --budget 2000
    """
    from carnelian.cloud.plan import measure_demand, plan_rows, recommend  # here, because it brings torch

    catalogue = load_catalogue()
    if refresh:
        region = region_of(region)
        catalogue = catalogue.with_prices(current_prices(catalogue.machines, region), region, date.today())
    if warning := catalogue.warn_of(image or catalogue.image, date.today()):
        console.note(f"warning: {warning}")
    demand = measure_demand(load_recipe(recipe, set), hours_of_audio)
    rows = plan_rows(demand, catalogue, speed=speed)
    batch = f"{demand.gib:.1f} GiB at its batch of {demand.batch_seconds:.0f} s"
    title = f"{recipe.name}: {console.duration_text(3600 * demand.audio_hours)} of audio in all; {batch}"
    columns = (
        "machine",
        "GPUs",
        "EFA",
        "GiB of one GPU",
        "time",
        "time is",
        "$ on demand",
        "$ spot",
        "$ Capacity Block",
    )
    console.table(title, columns, [plan_cells(row) for row in rows])
    print(
        f'Prices of {catalogue.region}, {catalogue.dated}; "-" where none is known (--refresh asks). Storage and traffic come on top.'
    )
    small, large = recommend(rows, budget)
    print(f"small: {advice(small, budget)}")
    print(f"large: {advice(large, budget)}")


def plan_cells(row: "Row") -> tuple[str, ...]:
    """A line of the plan's table."""
    if row.accumulate > 1:
        fits = f"{row.gib:.1f} of {row.machine.gpu_gib:g}, batch in {row.accumulate} parts"
    else:
        fits = f"{row.gib:.1f} of {row.machine.gpu_gib:g}"
    block = dollars(row.capacity_block) + (f" ({row.block_days} d)" if row.capacity_block is not None else "")
    return (
        f"{row.count} x {row.machine.type}",
        f"{row.gpus} {row.machine.gpu}",
        str(row.machine.efa or "-"),
        fits if row.fits else f"{fits}: does not fit",
        console.duration_text(3600 * row.hours),
        row.source,
        dollars(row.on_demand),
        dollars(row.spot),
        block,
    )


def dollars(amount: float | None) -> str:
    """An amount for people, "-" where none is known."""
    return "-" if amount is None else f"{amount:,.2f}" if amount < 100 else f"{amount:,.0f}"


def advice(row: "Row | None", budget: float) -> str:
    """A recommendation in a sentence or two."""
    if not row:
        return f"none fits{f' within ${budget:g}' if budget else ''}. Take fewer epochs, a smaller network, or a larger --budget"
    time = console.duration_text(3600 * row.hours)
    words = [f"{row.count} x {row.machine.type} ({row.gpus} x {row.machine.gpu}), about {time}, {price_words(row)}."]
    if row.accumulate > 1:
        words.append(
            f"The batch does not fit at once: --set train.batch_size=(a {row.accumulate}th) --set train.accumulate={row.accumulate}."
        )
    if row.gpus == 1 and row.hours > 168:
        words.append("No single GPU ends within a week: take the large one, or fewer epochs.")
    if row.capacity_block is not None:
        words.append("A Capacity Block is paid up front, in whole days, and cannot be given back.")
    if row.machine.family == "P":
        words.append("P types are hardly free on demand: reserve a Capacity Block.")
    return " ".join(words)


def price_words(row: "Row") -> str:
    """The known prices of a row in words."""
    known = [
        ("on demand", row.on_demand),
        ("as spot", row.spot),
        (f"as a Capacity Block of {row.block_days} day{'s' * (row.block_days != 1)}", row.capacity_block),
    ]
    return (
        ", ".join(f"${dollars(price)} {kind}" for kind, price in known if price is not None and math.isfinite(price))
        or "price not known"
    )


def launch_small(
    recipe: Annotated[Path | None, "the recipe to train; its manifests are named data/..."] = None,
    *,
    name: Annotated[str, "the launch's name; small letters, digits and -"],
    set: Annotated[list[str], "a change to the recipe, such as train.batch_size=16; may be given again"] = [],  # noqa: B006
    notebook: Annotated[bool, "open notebooks/an4.ipynb on the machine instead of training"] = False,
    script: Annotated[bool, "run notebooks/an4.py on the machine instead of training"] = False,
    bucket: Annotated[str, "the bucket for data and results; one of your account's where left out"] = "",
    region: Annotated[str, "region of AWS"] = "",
    options: MachineOptions,
) -> None:
    """Train on one machine with a GPU; started again with a name that was stopped, it goes on.

    Example: carnelian launch small an4/quartznet --name an4-first --type g6.xlarge --spot --hours 12
    """
    if [recipe is not None, notebook, script].count(True) != 1:
        raise CloudError("launch small: expected one of RECIPE, --notebook and --script")
    stack_name(name)
    machines, catalogue = options.check(), load_catalogue()
    file = Path("notebooks") / ("an4.ipynb" if notebook else "an4.py")
    if not recipe and not file.is_file():
        raise CloudError(f"{file}: not here. Run the command in a checkout of the project, where the notebook is")
    resolved = load_recipe(recipe, set) if recipe else None
    if resolved:
        check_manifests(resolved)
    region = region_of(region)
    launch = Launch(
        name=name,
        region=region,
        bucket=bucket or bucket_name(account_number(region), region),
        machines=machines,
        image=options.image or catalogue.image,
        options=options,
        mode="train" if recipe else "notebook" if notebook else "script",
        recipe_file=recipe,
        recipe=resolved,
        changes=tuple(set),
        notebook=None if recipe else file,
    )
    if warning := catalogue.warn_of(launch.image, date.today()):
        console.note(f"warning: {warning}")
    instance = start_machine(launch)
    type = instance.get("InstanceType") or machines[0].type
    print(
        f"{name}: {type} {instance['InstanceId']} in {instance['AvailabilityZone']} is starting; "
        f"${catalogue.machine(type).on_demand:g} an hour on demand in {catalogue.region}. "
        f"It stops when it is done, idle for {options.idle_minutes} minutes, or after {options.hours:g} hours."
    )
    print(f"Next: carnelian launch status {name}; launch fetch {name} --out runs/{name}; launch delete {name}")


def launch_large(
    recipe: Annotated[Path, "the recipe to train; its manifests are named data/..."],
    *,
    name: Annotated[str, "the launch's name; small letters, digits and -"],
    out: Annotated[Path, "the folder for the cluster's configuration and job script"] = Path("launch"),
    set: Annotated[list[str], "a change to the recipe, such as train.batch_size=16; may be given again"] = [],  # noqa: B006
    bucket: Annotated[str, "the bucket for data and results; one of your account's where left out"] = "",
    region: Annotated[str, "region of AWS"] = "",
    options: ClusterOptions,
) -> None:
    """Train on a cluster of machines with EFA: AWS ParallelCluster with Slurm and FSx for Lustre.

    Example: carnelian launch large librispeech/quartznet15x5 --name libri --type p5.48xlarge --nodes 2
    """
    stack_name(name)
    machine = options.check()
    check_manifests(load_recipe(recipe, set))
    region = region_of(region)
    bucket = bucket or bucket_name(account_number(region), region)
    launch = ClusterLaunch(name, region, bucket, machine, options, recipe, tuple(set))
    status = launch_cluster(launch, out / name)
    nodes = f"{options.nodes} x {options.type}"
    print(f"{name}: {status}; the cluster is ready in about 20 minutes and then trains on {nodes}. Files: {out / name}")
    print("Head node, NAT gateway and file system cost until it is deleted, also while no node runs.")
    print(f"Next: carnelian launch status {name}; launch fetch {name} --out runs/{name}; launch delete {name}")


def show_launches(
    name: Annotated[str, "the launch; all of them where left out"] = "",
    *,
    region: Annotated[str, "region of AWS"] = "",
) -> None:
    """Show launches: their machine, how far they are, what runs and costs, and how to reach it.

    Example: carnelian launch status an4-first
    """
    region = region_of(region)
    names = [name] if name else lifecycle.launches(region)
    states = [lifecycle.state_of(each, region) for each in names]
    rows = [
        (
            each.name,
            each.machine,
            each.status.get("state", "-"),
            each.status.get("step", "-"),
            each.stop_at,
            each.status.get("message", ""),
        )
        for each in states
    ]
    console.table(
        f"Launches in {region}", ("name", "machine", "training", "step", "stops at the latest", "message"), rows
    )
    running = ", ".join(each.name for each in states if each.costs)
    print(f"Running, and costing money: {running}." if running else "No machine is running.")
    print("Buckets cost a little as long as they hold data.")
    for each in states if name else []:
        print("\n".join(each.forwards))
        if each.settings.get("mode") == "notebook" and each.instance:
            print(f"http://localhost:8888/lab/tree/run/notebooks/an4.ipynb?token={each.settings['token']}")


def print_logs(
    name: Annotated[str, "the launch"],
    *,
    region: Annotated[str, "region of AWS"] = "",
) -> None:
    """Print what the training wrote; the machine copies it to the bucket every minute.

    Example: carnelian launch logs an4-first
    """
    region = region_of(region)
    print(lifecycle.read_log(lifecycle.state_of(name, region), region), end="")


def fetch_launch(
    name: Annotated[str, "the launch"],
    *,
    out: Annotated[Path, "the folder for the run; what is there already is not copied again"],
    region: Annotated[str, "region of AWS"] = "",
) -> None:
    """Copy the run's checkpoints, logs and scores from the bucket.

    Example: carnelian launch fetch an4-first --out runs/an4-first
    """
    region = region_of(region)
    count = lifecycle.fetch_run(lifecycle.state_of(name, region), out, region)
    print(f"{count} files in {out}. Next: carnelian evaluate {out} MANIFEST")


def stop_launch(
    name: Annotated[str, "the launch"],
    *,
    pcluster: Annotated[str, "for a cluster: the program pcluster, where it is not on the path"] = "pcluster",
    region: Annotated[str, "region of AWS"] = "",
) -> None:
    """Stop the machine after it saved; the same launch command goes on later.

    Example: carnelian launch stop an4-first
    """
    region = region_of(region)
    if find_stack(f"{name}-network", region):
        stop_cluster(name, region, pcluster)
        print(f"{name}: the nodes save and are stopped. Head node, NAT gateway and file system still cost.")
        print(f"Next: carnelian launch fetch {name} --out runs/{name}; launch delete {name}")
        return
    stop_machine(name, region)
    print(
        f"{name}: the machine saves and is stopped; it costs nothing from then on. The same launch small command goes on."
    )


def delete_launch(
    name: Annotated[str, "the launch"],
    *,
    pcluster: Annotated[str, "for a cluster: the program pcluster, where it is not on the path"] = "pcluster",
    region: Annotated[str, "region of AWS"] = "",
) -> None:
    """Take a launch down: machine, network, role and alarms. The bucket stays.

    Example: carnelian launch delete an4-first
    """
    region = region_of(region)
    bucket = lifecycle.delete_stack(name, region, pcluster)
    if bucket is None:
        print(f"{name}: nothing to delete in {region}.")
        return
    rest = lifecycle.leftovers(name, region)
    if rest:
        raise CloudError(
            f"{name}: the stack is deleted, but {', '.join(rest[:5])} still exists and costs. Run aws ec2 terminate-instances or "
            "aws ec2 delete-volume, with that id"
        )
    print(
        f"{name}: deleted. Only the bucket is left: s3://{bucket} (aws s3 rb --force s3://{bucket} removes it with all results)."
    )


LAUNCH_VERBS = {
    "plan": plan_training,
    "small": launch_small,
    "large": launch_large,
    "status": show_launches,
    "logs": print_logs,
    "fetch": fetch_launch,
    "stop": stop_launch,
    "delete": delete_launch,
}
