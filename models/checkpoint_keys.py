"""What other trainers wrap around a network's state dict, by pure functions: keys, prefixes, counters."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

AVERAGED = ("ema", "params_ema", "model_ema", "ema_model", "state_dict_ema")
KEYS = ("weights", "state_dict", "model", "model_state_dict", "model_state", "net", "network", "params", "module", "checkpoint", *AVERAGED)
COUNTERS = ("n_averaged", "total_ops", "total_params")  # of averaged weights, and of packages that count operations

# Of PyTorch's wrappers around a network or a part of it: compiled, recomputed for gradients, sharded
WRAPPERS = re.compile(r"\b(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")


def find_weights(content: Mapping[Any, Any]) -> dict[str, dict[str, Tensor]]:
    """Return a checkpoint's state dicts, without counters and PyTorch's wrappers, by their dotted keys: "" where it is one itself."""
    weights = {key: value for key, value in content.items() if str(key).rpartition(".")[2] not in COUNTERS}
    if weights and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()):
        bare = {WRAPPERS.sub("", key): value for key, value in weights.items()}
        return {"": bare if len(bare) == len(weights) else weights}  # else with and without a wrapper, which the caller refuses
    inner = {key: find_weights(content[key]) for key in KEYS if isinstance(content.get(key), Mapping)}
    found = {f"{key}.{path}".rstrip("."): weights for key, of_key in inner.items() for path, weights in of_key.items()}
    distinct = {tuple(map(id, weights.values())): key for key, weights in reversed(found.items())}  # of one under two keys, the first
    return {key: found[key] for key in found if key in distinct.values()}


def preferred(found: Mapping[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return the averaged ones of `find_weights`; else that of this project's own key; else all."""
    averaged = {key: weights for key, weights in found.items() if not set(AVERAGED).isdisjoint(key.split("."))}
    return averaged or {key: weights for key, weights in found.items() if key == "weights"} or dict(found)


def unwrapped(weights: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield a state dict as it is, then without the first part of most of its names, such as "module." or "encoder.", and so on."""
    while True:
        yield weights
        firsts = Counter(name.partition(".")[0] for name in weights if "." in name)
        first, count = next(iter(firsts.most_common(1)), ("", 0))
        shorter = {name.removeprefix(f"{first}."): tensor for name, tensor in weights.items()}
        if 2 * count <= len(weights) or len(shorter) < len(weights):  # or two tensors would have one name
            return
        weights = shorter
