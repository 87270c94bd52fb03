"""Two ways to carry a request to an endpoint and its answer back, behind one interface.

``lean`` (aiohttp) carries plain chat completions with a tenth of the SDK's work a call. ``sdk`` is
the openai package, for Azure's own protocol and whatever else it knows of odd providers.
"""

import ipaddress
import logging
import ssl
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson

from resources.llm.faults import ConnectionLost, HttpAnswer, NoConnection

_CONNECT_S = 30.0
# Fields that the SDK does not know; it sends them as they are.
_EXTRA_FIELDS = ("grammar", "cache_prompt")


class LeanTransport:
    """Requests over aiohttp, with keep-alive, TLS and proxies as the environment sets them.

    It is opened and used in one event loop. Its API key is empty where the endpoint needs none.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        # ``Endpoint`` limits how many requests are sent at once, so the pool does not.
        connector = aiohttp.TCPConnector(
            limit=0, ssl=ssl.create_default_context(), ttl_dns_cache=300
        )
        self._proxy = _proxy(base_url)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )

    async def chat(self, body: dict[str, Any]) -> HttpAnswer:
        """Ask for a chat completion.

        Raises:
            NoConnection: No connection could be made.
            ConnectionLost: It ended before the answer was whole.
        """
        return await self.post("/chat/completions", orjson.dumps(body))

    async def post(self, path: str, body: bytes) -> HttpAnswer:
        """Send a body to a path below the base URL; raises as ``chat`` does."""
        try:
            async with self._session.post(
                self.base_url + path, data=body, proxy=self._proxy, allow_redirects=False
            ) as response:
                return HttpAnswer(response.status, response.headers, await response.read())
        except aiohttp.ClientConnectorError as error:
            raise NoConnection(str(error.os_error) or type(error.os_error).__name__) from None
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            raise ConnectionLost(type(error).__name__) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class SdkTransport:
    """Requests over the openai package, with the methods of ``LeanTransport``.

    With the version of an API it speaks Azure's own protocol, and the base URL is the resource's.
    """

    def __init__(self, base_url: str, key: str, api_version: str | None) -> None:
        import openai

        quiet_loggers()
        self.base_url = base_url
        self._openai = openai
        options: dict[str, Any] = {
            "api_key": key or "none",
            "max_retries": 0,
            "timeout": None,
            "http_client": openai.DefaultAioHttpClient(**http_settings(base_url)),
        }
        self._client: openai.AsyncOpenAI
        if api_version:
            self._client = openai.AsyncAzureOpenAI(
                azure_endpoint=base_url, api_version=api_version, **options
            )
        else:
            self._client = openai.AsyncOpenAI(base_url=base_url, **options)

    async def chat(self, body: dict[str, Any]) -> HttpAnswer:
        """Ask for a chat completion; raises as ``LeanTransport.chat`` does."""
        openai = self._openai
        known = dict(body)
        extra = {name: known.pop(name) for name in _EXTRA_FIELDS if name in known}
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                **known, extra_body=extra or None
            )
            response = raw.http_response
            return HttpAnswer(response.status_code, response.headers, response.content)
        except openai.APIStatusError as error:
            response = error.response
            return HttpAnswer(response.status_code, response.headers, response.content)
        except openai.APIConnectionError as error:
            # The SDK calls a refused connection a timeout, too.
            refusal = _refusal(error)
            if refusal is not None:
                raise NoConnection(str(refusal.os_error)) from None
            timed_out = isinstance(error, openai.APITimeoutError)
            reason = "timed out" if timed_out else type(error.__cause__ or error).__name__
            raise ConnectionLost(reason) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


def _refusal(error: BaseException) -> aiohttp.ClientConnectorError | None:
    """The refused connection that an error of the SDK came from, if it did."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientConnectorError):
        cause = cause.__cause__ or cause.__context__
    return cause


def open_transport(
    kind: Literal["lean", "sdk"], base_url: str, key: str, api_version: str | None
) -> LeanTransport | SdkTransport:
    """The transport of an endpoint; only the SDK speaks Azure's own protocol."""
    if kind == "sdk" or api_version:
        return SdkTransport(base_url, key, api_version)
    return LeanTransport(base_url, key)


def http_settings(url: str) -> dict[str, Any]:
    """TLS and proxies for an httpx client that asks an endpoint, as the environment sets them."""
    # A proxy never leads to this machine.
    return {"trust_env": not is_loopback(url), "verify": ssl.create_default_context()}


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def quiet_loggers() -> None:
    """Keep the SDK's loggers at warnings: at debug level they write whole prompts."""
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))


def _proxy(base_url: str) -> str | None:
    """The environment's proxy for a URL, looked up once; none for this machine."""
    parts = urlsplit(base_url)
    if is_loopback(base_url) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
