"""Download timm's ImageNet weights from Hugging Face's hub."""

from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

from config import UserError


def hub_file(repository: str) -> Path:
    """Return a repository's file of weights, downloaded once. Raise UserError within seconds if there is no connection."""
    repository_file = repository, "model.safetensors"
    path = try_to_load_from_cache(*repository_file)
    try:
        if not isinstance(path, str):
            get_hf_file_metadata(hf_hub_url(*repository_file))  # fails early; the download itself would retry many times
            path = hf_hub_download(*repository_file)
    except Exception as error:  # of the hub, of its HTTP library, or of the system
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]  # a timeout may have no text
        raise UserError(f"model.backbone timm: {repository} cannot be downloaded ({reason}); name a file of ImageNet weights") from error
    return Path(path)
