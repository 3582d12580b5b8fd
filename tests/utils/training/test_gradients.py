"""One gradient, however the batch is shared out: one process, DataParallel, DistributedDataParallel; batch norm over processes."""

from __future__ import annotations

import pytest
import torch
from gradients import BATCH, in_data_parallel, in_one_process, in_processes, largest_difference, small_config
from torch import nn

from config.load import with_overrides
from losses import build_loss
from models import build_model
from utils.distributed import DistributedContext
from utils.training.step import TrainingStep

LIMIT = 1e-9  # float64


@pytest.fixture(scope="module")
def whole_batch():
    """The gradient of one process, batch norm with its stored statistics."""
    return in_one_process()[0]


def test_every_parameter_has_a_gradient(whole_batch):
    """What the tests below compare is nowhere zero by accident."""
    assert len(whole_batch) == len(list(build_model(small_config()).parameters()))
    assert min(gradient.abs().max() for gradient in whole_batch.values()) > 1e-3


def test_no_checkpoint_is_left_where_the_comparison_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    in_one_process()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("replicas", "count"), [(2, BATCH), (4, BATCH), (2, 5), (3, 7)])
def test_replicas_that_share_a_batch_give_its_gradient(whole_batch, replicas, count):
    """Also where the replicas' parts are not of one size."""
    whole = whole_batch if count == BATCH else in_one_process(count=count)[0]
    assert largest_difference(whole, in_one_process(replicas=replicas, count=count)[0]) <= LIMIT


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="DataParallel needs two GPUs; above its replicas are imitated on the CPU")
@pytest.mark.parametrize("count", [BATCH, 5])
def test_data_parallel_gives_the_gradient_of_one_process(count):
    assert largest_difference(in_one_process(count=count)[0], in_data_parallel(count)[0]) <= LIMIT


@pytest.mark.slow
def test_two_processes_of_half_the_batch_give_its_gradient(whole_batch):
    assert largest_difference(whole_batch, in_processes(2)[0]) <= LIMIT


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch synchronizes batch norms between GPUs only")
def test_synchronized_batch_norm_gives_gradient_and_statistics_of_one_process():
    gradient, buffers = in_one_process(train_norms=True, device="cuda")
    shared_gradient, shared_buffers = in_processes(2, train_norms=True, gpu=True)
    assert largest_difference(gradient, shared_gradient) <= LIMIT
    assert largest_difference(buffers, shared_buffers) <= LIMIT


@pytest.mark.parametrize(("device", "wanted"), [("cuda:0", True), ("cuda:0", False), ("cpu", True)])
def test_batch_norm_is_synchronized_between_gpus_where_it_is_configured(monkeypatch, device, wanted):
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda step, **_: step)
    config = with_overrides(small_config(), [f"train.sync_batchnorm={str(wanted).lower()}"])
    network = build_model(config)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    before = {name: id(parameter) for name, parameter in network.named_parameters()}
    step = DistributedContext("distributed", torch.device(device), 0, 2).wrap(
        TrainingStep(network, build_loss(config), "float32"), config.train
    )
    assert step.network is network
    synchronized = sum(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    assert synchronized == (norms if wanted and device != "cpu" else 0)
    # the optimizer was made before, for these very parameters
    assert {name: id(parameter) for name, parameter in network.named_parameters()} == before
