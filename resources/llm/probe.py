"""What a role's endpoints can do: as it is remembered, or asked anew because a person wants it."""

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
    """What is known of an endpoint: features, and whether it has them; asks nothing."""
    return _capabilities(role, place, shared).has


def ask_anew(
    role_name: str, role: Role, place: FurtherEndpoint, shared: Coordination
) -> Mapping[str, bool]:
    """Forget what is known of an endpoint and ask it: one plain call, then one a feature.

    Args:
        role_name: tagger, scorer, refiner or judge; for messages.
        role: The role's settings.
        place: The endpoint.
        shared: Where it is remembered.

    Returns:
        Features, and whether it has them.

    Raises:
        LLMError: It does not even answer a plain call, which says nothing of its features.
    """
    _capabilities(role, place, shared).forget()
    endpoint = Endpoint(role_name, role, place, None, shared, lambda line: None)
    return asyncio.run(_ask(endpoint, role))


async def _ask(endpoint: Endpoint, role: Role) -> Mapping[str, bool]:
    await endpoint.open()
    try:
        came = await endpoint.attempt(prepare(_GREETING, role))
        if isinstance(came, Fault):
            raise endpoint.dead or LLMError(f"{endpoint.base_url}: {came.detail}")
        return await endpoint.learn_all()
    finally:
        await endpoint.close()


def _capabilities(role: Role, place: FurtherEndpoint, shared: Coordination) -> Capabilities:
    return Capabilities(shared, place.base_url, place.model or role.model, lambda line: None)
