"""Object keypoint similarity, by the name that code outside calls it by; decoders, which are further down, share it."""

from utils.oks import object_keypoint_similarity, oks_nms

__all__ = ["object_keypoint_similarity", "oks_nms"]
