"""Several ranks have the gradient, losses and validation of one; they skip and stop together, and resume exactly."""

import os
import shutil
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import (
    ALONE,
    Replicas,
    fix_norms,
    fresh_state,
    in_a_child,
    in_ranks,
    part_of,
    points,
    random_batch,
    same,
    samples_read,
    stopped_after,
    weighted,
    weights,
)
from torch import Tensor, nn

from config import UserError, load_config
from config.schema import TrainConfig
from data.datasets import MixedDataset
from utils.checkpoint import read_checkpoint
from utils.distributed import DistributedContext, init_process_group
from utils.training import trainer
from utils.training.trainer import train, train_one_epoch
from utils.training.validation import validate

STEADY = ("train.epochs=2", "train.batch_size=2", "train.checkpoint_every=2", "train.log_every=2", "train.ema_decay=0.9")
DOUBLE = ("train.precision=float64", "train.optimizer=sgd", "train.momentum=0", "train.weight_decay=0", "train.learning_rate=1e-6")
DOUBLE += ("train.scale_rate_by_processes=false",)
SPLIT = (slice(0, 3), slice(3, 6), slice(6, 7))
KILLED = 2  # step after which a run is killed


def gradient(recipe: Path, folder: Path, batch_of: slice, size: int, context=ALONE, replicas: int = 1) -> dict[str, Tensor]:
    """The gradient that reaches the optimizer of a rank that takes these samples of a batch, in double precision."""
    state, found = fresh_state(recipe, folder, DOUBLE, context), {}
    fix_norms(state.network)
    if replicas > 1:
        state.step = Replicas(state.step, replicas)
    state.optimizer.register_step_pre_hook(lambda *_: found.update({n: p.grad.clone() for n, p in state.network.named_parameters()}))
    train_one_epoch(state, [part_of(random_batch(state, size), batch_of)], 0)
    return found


def assert_same_gradient(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys() and a
    largest = max(values.abs().max() for values in b.values())
    assert max((a[name] - b[name]).abs().max() for name in a) <= 1e-9 * largest


# One shared start of two ranks


def two_ranks_work(recipe: Path, folder: Path, context: DistributedContext) -> dict[str, object]:
    """Do everything that the tests below need two ranks for, in one start; return what this rank sees."""
    seen, config = {}, load_config(recipe, STEADY)
    seen["gradient"] = gradient(recipe, folder, slice(4 * context.rank, 4 * context.rank + 4), 8, context)

    state = fresh_state(recipe, folder, (), context)  # seven samples in three batches; statistics that are each rank's own before
    for name, buffer in state.network.named_buffers():
        if name.endswith("running_mean"):
            buffer += context.rank
    whole = random_batch(state, 7, seed=99)
    seen["validation"] = validate(state, [part_of(whole, rows) for rows in SPLIT[context.rank :: context.size]], 0)

    state = fresh_state(recipe, folder, ("train.learning_rate=1e-4", "train.accumulate=2"), context)
    batches = [random_batch(state, seed=10 * n + context.rank) for n in range(4)]
    if context.rank == 1:
        batches[1] = weighted(batches[1], torch.nan)
    local, no_sync = [], type(state.step).no_sync
    state.step.no_sync = lambda: (local.append(None), no_sync(state.step))[1]
    seen["loss after a NaN"] = train_one_epoch(state, batches, 0)
    seen["weights after a NaN"] = {name: tensor.detach().clone() for name, tensor in state.network.named_parameters()}
    seen["local backward passes"] = len(local)

    train(config, folder / "straight", context)
    with samples_read() as read:
        stopped_after(KILLED, lambda: train(config, folder / "killed", context))
    seen["before the kill"] = list(read)
    context.barrier()
    if context.is_main:
        shutil.copytree(folder / "killed", folder / "resumed")
    context.barrier()
    train(config, folder / "resumed", context, "auto")
    seen["skipped"] = lose_all_batches(load_config(recipe, (*STEADY, "train.max_dropped=2")), folder / "skipped", context)
    return seen


def lose_all_batches(config, folder: Path, context: DistributedContext) -> dict[str, object]:
    """Train where every pixel of rank 1 is infinite. Return the error's message and the samples that this rank reads."""
    to_device = trainer.to_device
    trainer.to_device = lambda *arguments: [(images * torch.inf**context.rank, targets) for images, targets in [to_device(*arguments)]][0]
    with samples_read() as read, pytest.raises(UserError) as error:
        train(config, folder, context)
    return {"message": str(error.value), "read": list(read)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(tiny, folder) -> list[dict]:
    return in_ranks(2, partial(two_ranks_work, tiny, folder), folder)


# One gradient


def test_two_ranks_of_half_the_batch_have_its_gradient(two, tiny, tmp_path):
    whole_batch = gradient(tiny, tmp_path, slice(None), 8)
    assert min(values.abs().max() for values in whole_batch.values()) > 0, "nothing that is compared may be zero by chance"
    for rank in two:
        assert_same_gradient(rank["gradient"], whole_batch)


def test_data_parallel_replicas_have_the_gradient_of_one_device(tiny, tmp_path):
    """Imitated on the CPU, where the replicas' parts of the batch differ in size."""
    assert_same_gradient(gradient(tiny, tmp_path, slice(None), 7, replicas=3), gradient(tiny, tmp_path, slice(None), 7))


@pytest.mark.parametrize(("device", "configured"), [("cuda:0", True), ("cuda:0", False), ("cpu", True)])
def test_batch_norm_is_synchronized_between_gpus_where_it_is_configured(tiny, tmp_path, monkeypatch, device, configured):
    """And keeps its parameters: the optimizer holds these."""
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda step, **_: step)
    state = fresh_state(tiny, tmp_path, (f"train.sync_batchnorm={str(configured).lower()}",))
    before = {name: id(parameter) for name, parameter in state.network.named_parameters()}
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in state.network.modules())
    DistributedContext("distributed", torch.device(device), 0, 2).wrap(state.step, state.config.train)
    synchronized = sum(isinstance(module, nn.SyncBatchNorm) for module in state.network.modules())
    assert synchronized == (norms if configured and device != "cpu" else 0)
    assert {name: id(parameter) for name, parameter in state.network.named_parameters()} == before


def test_data_parallel_is_not_compiled_unless_asked():
    context = DistributedContext("data_parallel", torch.device("cuda", 0))
    assert not context.compiles(TrainConfig(compile="auto"))
    with pytest.raises(UserError, match="train.compile: does not go with DataParallel"):
        context.wrap(nn.Identity(), TrainConfig(compile=True))


# Together


def test_rank_0_alone_logs_and_the_learning_rate_scales_with_the_ranks(two, folder, tiny):
    logs = [(folder / f"rank{rank}.txt").read_text() for rank in range(2)]
    assert [text.count("2 x batch 2 on cpu, epochs 1 to 2") for text in logs] == [4, 0]  # straight, killed, resumed, skipped
    (group,) = read_checkpoint(folder / "straight" / "last.pth")["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(2 * load_config(tiny).train.learning_rate)


def test_a_batch_that_is_bad_on_one_rank_is_skipped_on_all(two):
    """Otherwise the others would take the gradient that the bad one has spoiled."""
    assert all(tensor.isfinite().all() for tensor in two[0]["weights after a NaN"].values())
    assert same(two[0]["weights after a NaN"], two[1]["weights after a NaN"])
    assert two[0]["loss after a NaN"] == two[1]["loss after a NaN"]


def test_accumulated_gradients_are_reduced_once(two):
    """Not with the first batch of each of two steps."""
    assert [rank["local backward passes"] for rank in two] == [2, 2]


def test_several_skipped_steps_stop_all_ranks_and_name_the_images_of_the_bad_one(two, tiny):
    config = load_config(tiny)
    dataset = MixedDataset(config.data.train_files, config, augment=True)
    images = ", ".join(dict.fromkeys(str(dataset.image_id(number)) for _, number in two[1]["skipped"]["read"][:4]))
    for rank in two:
        assert rank["skipped"]["message"] == (
            "epoch 1: 2 steps in a row were skipped, their loss was not finite or over 200000 (train.max_loss);"
            f" lower train.learning_rate, or inspect their images: {images}"
        )


def test_validation_is_the_same_to_the_last_bit_on_any_number_of_ranks(two, tiny, tmp_path):
    """Though one has more samples than the other, and batch-norm statistics of its own; those of rank 0 count."""
    state = fresh_state(tiny, tmp_path)
    whole = random_batch(state, 7, seed=99)
    assert {rank["validation"] for rank in two} == {validate(state, [part_of(whole, rows) for rows in SPLIT], 0)}


# Resumed


def test_a_killed_run_resumes_bit_for_bit(two, folder):
    for name in ("last.pth", "ema.pth", "best.pth"):
        assert same(weights(folder / "resumed", name), weights(folder / "straight", name))
    resumed, straight = (read_checkpoint(folder / name / "last.pth") for name in ("resumed", "straight"))
    assert [resumed[key] for key in ("epoch", "steps", "best")] == [straight[key] for key in ("epoch", "steps", "best")]
    assert points(folder / "resumed") == points(folder / "straight")  # every loss is the mean over all ranks
    assert len(resumed["random"]) == 2 and all(same(a, b) for a, b in zip(resumed["random"], straight["random"]))


def test_another_number_of_ranks_resumes_with_the_samples_that_are_left(two, folder, tiny, samples, tmp_path):
    before = [number for rank in two for _, number in rank["before the kill"]]
    assert len(before) == 4 * KILLED
    with samples_read() as read:
        train(load_config(tiny, (*STEADY, "train.epochs=1")), tmp_path / "alone", ALONE, str(folder / "killed" / "last.pth"))
    after = [number for _, number in read]
    assert len(after) == 2 * ((samples - len(before)) // 2)
    assert len({*before, *after}) == len(before) + len(after)
    assert "2 processes before, 1 now: the remaining samples are divided anew" in (tmp_path / "alone" / "train.log").read_text()


def test_ranks_that_do_not_see_the_same_checkpoint_are_refused(tiny, tmp_path, monkeypatch):
    """Where machines do not share the output folder, one would start anew beside the others."""
    state = fresh_state(tiny, tmp_path)
    monkeypatch.setattr(DistributedContext, "all_gather", lambda self, progress: [progress, (3, 0, 15)])
    with pytest.raises(UserError, match="not every machine sees the same checkpoint in it; all of them must share it"):
        state.check_same_on_all_ranks()


# As torchrun starts them


def test_ranks_that_torchrun_restarts_meet_again(tmp_path):
    """Torchrun keeps one store for all restarts. PyTorch's rendezvous alone lets the rank that starts first read a dead rank's address."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def join(rank: int, restart: int) -> None:
        names = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
        os.environ.update({name: str(value) for name, value in names.items()})
        time.sleep(0.3 * (rank == restart % 2))  # each rank is once the later one
        init_process_group("gloo", timedelta(seconds=60))
        total = torch.tensor([rank + 1])
        dist.all_reduce(total)
        assert total.item() == 3
        os._exit(0)  # without a farewell, as a killed process

    for restart in range(3):
        ranks = [in_a_child(partial(join, rank, restart), tmp_path / f"{restart} {rank}.txt") for rank in range(2)]
        assert [os.waitpid(rank, 0)[1] for rank in ranks] == [0, 0], [path.read_text() for path in tmp_path.iterdir()]


def test_train_distributed_trains_under_torchrun_only(run, fails, tiny, tmp_path, monkeypatch):
    command = ("train_distributed.py", "--config", tiny, "--output", tmp_path / "run", "train.epochs=1")
    monkeypatch.delenv("RANK", raising=False)
    assert "torchrun --nproc_per_node=N" in fails(*command)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    ended = run(*command, "--local-rank=0")  # as torch.distributed.launch adds it
    assert (ended.status, (tmp_path / "run" / "best.pth").exists()) == (0, True), ended.err
