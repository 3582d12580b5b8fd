"""Public names of functions that decoders import from utils/oks.py."""

from utils.oks import object_keypoint_similarity as object_keypoint_similarity
from utils.oks import oks_nms as oks_nms
