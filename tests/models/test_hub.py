"""Downloads of ImageNet weights: once, and without retries where there is no connection."""

import pytest

from config import UserError
from models import hub


def test_a_file_is_downloaded_once(monkeypatch, tmp_path):
    requests, cached = [], []
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: cached[0] if cached else None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: None)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *where: requests.append(where) or cached.append(str(tmp_path)) or str(tmp_path))
    assert [hub.hub_file("timm/some_network") for _ in range(2)] == [tmp_path, tmp_path]
    assert requests == [("timm/some_network", "model.safetensors")]


@pytest.mark.parametrize(("error", "reason"), [(ConnectionError("no route\nsecond line"), "no route"), (TimeoutError(), "TimeoutError")])
def test_a_failed_download_is_one_line_without_retries(monkeypatch, error, reason):
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: (_ for _ in ()).throw(error))
    monkeypatch.setattr(hub, "hf_hub_download", lambda *where: pytest.fail("retried without a connection"))
    with pytest.raises(UserError, match=rf"^model\.backbone timm: timm/some_network cannot be downloaded \({reason}\); "):
        hub.hub_file("timm/some_network")
