"""Read images from the web, and show URLs without their secrets."""

import re
import string
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.parse import quote, unquote_to_bytes, urlsplit
from urllib.request import Request, urlopen

import numpy as np

from config import UserError
from config.version import VERSION
from data.images import IMAGE_SUFFIXES, MAX_BYTES, check_file_size, decode_checked

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
TIMEOUT = 30.0  # seconds without a byte from a server


def without_secrets(source: Path | str) -> str:
    """Return a path, or a URL without user, password, query and fragment, for messages and file names."""
    if isinstance(source, Path):
        return str(source)
    return re.split("[?#]", re.sub("://.*@", "://", source))[0]  # a password can hold a / ? or # that should have been escaped


def url_name(url: str) -> str:
    """Return the name of the file that a URL is of, or a name made of its host, of characters that every file system takes."""
    host, _, path = without_secrets(url).partition("://")[2].partition("/")
    return re.sub(r"[^\w.%~+-]", "_", PurePosixPath(path).name)[-100:] or re.sub(r"\W", "-", host) or "stream"


def is_image_url(url: str) -> bool:
    """Return whether a URL is of an image, by its ending or by what the server says."""
    if not url.lower().startswith(("http://", "https://")):
        return False
    if PurePosixPath(url_name(url)).suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        with _opened(url) as response:
            return response.headers.get_content_maintype() == "image"
    except UserError:  # the video's reader will say so
        return False


def read_image_url(url: str) -> np.ndarray:
    """Return the image of an http(s) URL as `data.images.read_image` does. Raise UserError where it cannot be had."""
    name = without_secrets(url)
    with _opened(url) as response:
        data = response.read(MAX_BYTES + 1)
    check_file_size(name, len(data))
    return decode_checked(data, name)


@contextmanager
def _opened(url: str) -> Iterator[HTTPResponse]:
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=host, fragment="").geturl()
    try:
        request = Request(quote(plain, safe=string.punctuation), headers={"User-Agent": f"simplepose/{VERSION}"})
        if login:  # not for the server that this one redirects to
            request.add_unredirected_header("Authorization", "Basic " + b64encode(unquote_to_bytes(login)).decode())
        with urlopen(request, timeout=TIMEOUT) as response:
            yield response
    except URLError as error:
        raise UserError(f"image {without_secrets(url)}: nothing answers there, or no image ({error.reason})") from None
    except (OSError, ValueError, HTTPException):  # their messages can hold a part of the URL
        raise UserError(f"image {without_secrets(url)}: cannot be downloaded") from None
