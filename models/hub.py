"""ImageNet weights from Hugging Face's hub, where timm keeps them."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

from config import UserError


def hub_file(repository: str) -> Path:
    """Return the weights of a repository of the hub, downloaded once. Raise UserError without a connection, within seconds."""
    where = repository, "model.safetensors"
    path = try_to_load_from_cache(*where)
    try:
        if not isinstance(path, str):
            get_hf_file_metadata(hf_hub_url(*where))  # fails at once; a download without a connection would be tried again and again
            path = hf_hub_download(*where)
    except Exception as error:  # the hub's own, its HTTP library's, the system's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]  # a timeout may say nothing
        raise UserError(f"model.backbone timm: {repository} cannot be downloaded ({reason}); name a file of ImageNet weights") from error
    return Path(path)
