"""CrowdPose's evaluation: COCO's figures without sizes, and AP on images that are easy, medium and hard by how crowded they are."""

from __future__ import annotations

from utils.evaluation.coco import CocoTask

COCO_FIGURES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
GROUPS = ("easy", "medium", "hard")
FIGURES = (*COCO_FIGURES, *(f"AP_{group}" for group in GROUPS))


def crowd_group(crowd_index: float) -> str:
    """Which of GROUPS an image belongs to; the bounds are those of CrowdPose's evaluation code."""
    return "easy" if crowd_index < 0.2 else "medium" if crowd_index < 0.8 else "hard"


class CrowdPoseTask(CocoTask):
    """`CocoTask` for CrowdPose's files: people's areas are those that `data.formats.crowdpose` gave them."""

    has_server = False

    def figures(self, detections: list[dict]) -> dict[str, float]:
        """The nine CrowdPose figures over the images; -1 where there is nobody to find (as pycocotools says it)."""
        every = super().figures(detections)
        figures = {name: every[name] for name in COCO_FIGURES}
        for group in GROUPS:
            ids = {image_id for image_id in self.files if crowd_group(self._truth.imgs[image_id]["crowdIndex"]) == group}
            found = [detection for detection in detections if detection["image_id"] in ids]
            figures[f"AP_{group}"] = self._coco_figures(found, sorted(ids))["AP"]
        return figures
