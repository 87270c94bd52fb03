"""Tells a person what a role's endpoints can do: as it is remembered, or by asking them anew."""

import asyncio
from collections.abc import Mapping

from resources.llm.capabilities import Capabilities
from resources.llm.coordination import Coordination
from resources.llm.endpoint import Endpoint
from resources.llm.errors import LLMError
from resources.llm.faults import Fault
from resources.llm.request import prepare
from resources.llm.types import Call
from resources.settings import FurtherEndpoint, Role

_GREETING = Call(({"role": "user", "content": "Say hello."},), "probe", max_tokens=16)


def remembered(role: Role, place: FurtherEndpoint, shared: Coordination) -> Mapping[str, bool]:
    """Whether an endpoint has each feature, as far as that is remembered; asks nothing."""
    return _capabilities(role, place, shared).has


def ask_anew(
    role_name: str, role: Role, place: FurtherEndpoint, shared: Coordination
) -> Mapping[str, bool]:
    """Whether an endpoint has each feature, found out anew: by one plain call and one a feature.

    Raises:
        LLMError: It does not even answer a plain call, which says nothing of its features.
    """
    _capabilities(role, place, shared).forget()
    endpoint = Endpoint(role_name, role, place, None, shared, lambda line: None)
    return asyncio.run(_ask(endpoint, role))


async def _ask(endpoint: Endpoint, role: Role) -> Mapping[str, bool]:
    await endpoint.open()
    try:
        result = await endpoint.attempt(prepare(_GREETING, role))
        if isinstance(result, Fault):
            raise endpoint.dead or LLMError(f"{endpoint.base_url}: {result.detail}")
        return await endpoint.learn_all()
    finally:
        await endpoint.close()


def _capabilities(role: Role, place: FurtherEndpoint, shared: Coordination) -> Capabilities:
    return Capabilities(shared, place.base_url, place.model or role.model, lambda line: None)
