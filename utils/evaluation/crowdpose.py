"""CrowdPose's evaluation: COCO's metrics without sizes, and AP on images of easy, medium and hard crowd index."""

from __future__ import annotations

from utils.evaluation.coco import CocoMetric, GroundTruth, compute_on

COCO_METRICS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
GROUPS = ("easy", "medium", "hard")
METRICS = (*COCO_METRICS, *(f"AP_{group}" for group in GROUPS))


def crowd_group(crowd_index: float) -> str:
    """Return the group of an image. The bounds are those of CrowdPose's evaluation code."""
    return "easy" if crowd_index < 0.2 else "medium" if crowd_index < 0.8 else "hard"


class CrowdPoseMetric(CocoMetric):
    """CrowdPose's nine metrics, with the areas that `data.formats.crowdpose` sets."""

    def compute(self, predictions: list[dict], ground_truth: GroundTruth) -> dict[str, float]:
        overall = super().compute(predictions, ground_truth)
        metrics = {name: overall[name] for name in COCO_METRICS}
        for group in GROUPS:
            ids = [i for i in ground_truth.files if crowd_group(ground_truth.annotations.imgs[i]["crowdIndex"]) == group]
            metrics[f"AP_{group}"] = compute_on(predictions, ground_truth, ids)["AP"]
        return metrics
