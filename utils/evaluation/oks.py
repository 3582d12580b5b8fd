"""Object keypoint similarity under its public name; it lives in utils/oks.py, which decoders may import."""

from utils.oks import object_keypoint_similarity, oks_nms

__all__ = ["object_keypoint_similarity", "oks_nms"]
