"""What a run reports: metrics in TensorBoard and as JSON lines."""

import json
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from utils.training import logging
from utils.training.logging import MetricsLogger, StepTimer


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_tensorboard_and_the_json_lines_have_all_metrics(train, samples):
    folder = train("run", "train.epochs=1", "train.log_every=3", "train.ema_decay=0.5")[0]
    scalars, steps = EventAccumulator(str(folder)).Reload(), samples // 2
    *logged, epoch = lines(folder)
    assert [point["step"] for point in logged] == [*range(3, steps, 3), steps]  # and the epoch's last one
    names = {"train/loss", "train/lr", "train/grad_norm", "train/skipped_steps", "memory/peak_mib"}
    names |= {"speed/samples_per_second", "data/wait_fraction", *(f"loss/stage_0_scale_{scale}" for scale in range(3))}
    for point in logged:
        assert set(point) == names | {"step"}
        assert 0 <= point["data/wait_fraction"] <= 1 and point["memory/peak_mib"] > 50
        assert point["train/loss"] == pytest.approx(sum(point[f"loss/stage_0_scale_{scale}"] for scale in range(3)))
    for name in names:
        assert [point.value for point in scalars.Scalars(name)] == pytest.approx([point[name] for point in logged], rel=1e-6)
    assert (epoch["epoch/number"], epoch["step"]) == (1, steps)
    counts = [point["step"] - before for point, before in zip(logged, [0, *range(3, steps, 3)])]
    mean = sum(count * point["train/loss"] for count, point in zip(counts, logged)) / steps
    assert epoch["epoch/training_loss"] == pytest.approx(mean)
    assert {"epoch/validation_loss", "epoch/validation_loss_of_the_ema"} <= set(epoch)
    assert "validation/0" in scalars.Tags()["images"]
    assert (folder / "curves.png").exists()


def test_tensorboard_has_the_resolved_configuration_and_its_hyperparameters(trained):
    """The hyperparameters in the plugin's own form, with metrics that the run has."""
    events = EventAccumulator(str(trained)).Reload()
    (text,) = events.Tensors("config/text_summary")
    assert (trained / "config.yaml").read_text() in text.tensor_proto.string_val[0].decode()
    contents = events.PluginTagToContent("hparams")
    values = HParamsPluginData.FromString(contents["_hparams_/session_start_info"]).session_start_info.hparams
    assert (values["train.learning_rate"].number_value, values["train.optimizer"].string_value) == (1e-3, "adamw")
    assert values["data.input_size"].string_value == "[64, 64]"
    assert not {"train.ema_decay", "skeleton.name", "assignment.trace"} & set(values), "None, and what is no hyperparameter"
    metrics = {info.name.tag for info in HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment.metric_infos}
    assert metrics & set(events.Tags()["scalars"]) == {"epoch/training_loss", "epoch/validation_loss"}


def test_the_timer_tells_steps_per_second_and_the_fraction_of_waiting(monkeypatch):
    clock = iter([10.0, 10, 11, 13, 14, 14, 15, 15])  # made, begun; each batch comes after 1 s, the first step takes 2 s; read, made anew
    monkeypatch.setattr(logging.time, "perf_counter", lambda: next(clock))
    timer = StepTimer()
    assert len(list(timer.timed([1, 2]))) == 2
    assert timer.read() == pytest.approx((2 / 5, 2 / 5))


def test_metrics_after_the_last_checkpoint_are_logged_anew(tmp_path):
    """And lines that a kill has cut or a power cut damaged."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 9}\n')  # of another run, which is overwritten
    metrics = MetricsLogger(tmp_path, 0, 0)
    for step in range(1, 5):
        metrics.add(step, {"train/loss": 1.0})
    metrics.add(4, {"epoch/number": 1})
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'\0\0\0\0ep": 2}\n\xff\n{"step": 3, "train/loss": 3}\n{"step": 5, "train')
    time.sleep(1.1)  # TensorBoard orders files by the second in their names
    metrics = MetricsLogger(tmp_path, 3, 0)
    metrics.add(4, {"train/loss": 2.0, "nan": float("nan")})
    metrics.close()
    assert [(line["step"], line["train/loss"]) for line in lines(tmp_path)] == [(1, 1), (2, 1), (3, 1), (3, 3), (4, 2)]
    assert lines(tmp_path)[-1]["nan"] is None
    assert [(point.step, point.value) for point in EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")][-1] == (4, 2.0)


def test_a_resumed_old_run_continues_its_curves_jsonl(tmp_path):
    (tmp_path / "curves.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    metrics = MetricsLogger(tmp_path, 1, 0)
    metrics.add(2, {"train/loss": 1.0})
    metrics.close()
    assert lines(tmp_path, "curves.jsonl") == [{"step": 1}, {"step": 2, "train/loss": 1.0}]
    assert not (tmp_path / "metrics.jsonl").exists()
