"""CrowdPose's evaluation: COCO's metrics without sizes, and AP on images of easy, medium and hard crowd index."""

import numpy as np

from utils.evaluation.coco import CocoMetric, GroundTruth

COCO_METRICS = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
GROUPS, BOUNDS = ("easy", "medium", "hard"), (0.2, 0.8)  # of the crowd index, as in CrowdPose's evaluation code
METRICS = (*COCO_METRICS, *(f"AP_{group}" for group in GROUPS))


class CrowdPoseMetric(CocoMetric):
    """CrowdPose's nine metrics, with the areas that `data.formats.crowdpose` sets."""

    def compute(self, predictions: list[dict], truth: GroundTruth) -> dict[str, float]:
        overall = super().compute(predictions, truth)
        metrics = {name: overall[name] for name in COCO_METRICS}
        for number, group in enumerate(GROUPS):
            ids = [i for i in truth.files if np.digitize(truth.coco.imgs[i]["crowdIndex"], BOUNDS) == number]
            metrics[f"AP_{group}"] = self.compute_over(ids, predictions, truth)["AP"]
        return metrics
