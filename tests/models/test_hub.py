"""Downloads of ImageNet weights: once, and without retries where there is no connection."""

from __future__ import annotations

import pytest

from config import UserError
from models import hub


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_is_downloaded_once(monkeypatch, tmp_path, cached):
    requests = []
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: str(tmp_path) if cached else None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: None)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *where: requests.append(where) or str(tmp_path))
    assert hub.hub_file("timm/some_network") == tmp_path
    assert requests == ([] if cached else [("timm/some_network", "model.safetensors")])


@pytest.mark.parametrize("error", [ConnectionError("no route to host\nsecond line"), TimeoutError()])
def test_a_failed_download_is_one_line_without_retries(monkeypatch, error):
    def fail(url: str) -> None:
        raise error

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *where: pytest.fail("retried without a connection"))
    reason = (str(error) or type(error).__name__).splitlines()[0]
    with pytest.raises(UserError, match=rf"^model\.backbone timm: timm/some_network cannot be downloaded \({reason}\); "):
        hub.hub_file("timm/some_network")
