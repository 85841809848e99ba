"""Clients of the openai package that do only what they are told."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from httpx2 import Client, Request
    from openai import OpenAI


def open_http(connections: int) -> Client:
    """Make the HTTP that a client sends through: no redirects, so many connections."""
    import httpx2
    import openai

    return openai.DefaultHttpxClient(
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


def open_client(
    base_url: str, key: str | None, timeout_s: float, http: Client, headers: dict[str, Any]
) -> OpenAI:
    """Make a client that does only what it is told, whatever OPENAI_* variables say."""
    import openai

    # Importing openai sets the level that OPENAI_LOG names.
    logging.getLogger("openai").setLevel(logging.WARNING)
    return openai.OpenAI(
        api_key=key or "none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        http_client=http,
        default_headers=headers,
    )


def empty_request(
    client: OpenAI, http: Client, headers: Mapping[str, Any], timeout_s: float
) -> Request:
    """Return the request for a chat completion as the client makes it, without its body."""
    named: dict[str, Any] = {}
    for source in (client.auth_headers, client.default_headers, headers):
        named.update({name.lower(): value for name, value in source.items()})
    # What is no text was omitted.
    sent = {name: value for name, value in named.items() if isinstance(value, str)}
    url = f"{client.base_url}chat/completions"
    request = http.build_request("POST", url, headers=sent, timeout=timeout_s)
    del request.headers["content-length"]
    return request


def client_headers(key: str | None) -> dict[str, Any]:
    """Return our headers, with every one that the environment could add omitted."""
    from openai import Omit

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    foreign = {line.partition(":")[0].strip() for line in lines if ":" in line}
    authorization = Omit() if key is None else f"Bearer {key}"
    return {
        **dict.fromkeys(foreign, Omit()),
        "OpenAI-Organization": Omit(),
        "OpenAI-Project": Omit(),
        "Authorization": authorization,
    }
