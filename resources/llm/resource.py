"""The Dagster resource that gives assets their clients."""

import functools
from collections.abc import Callable

import dagster as dg
import polars as pl
from pydantic import PrivateAttr

from resources.llm.client import LLMClient
from resources.llm.coordination import Coordination
from resources.llm.errors import LLMError
from resources.llm.store import ReplyStore
from resources.progress import Reporter
from resources.settings import Role, Roles, Settings, load_settings


class LLMResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Language models by role, with one reply store a home.

    The home's settings are read whenever a client is made.
    """

    home: str
    _run_id: str | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Remember the run, since the calls of a run share one budget."""
        self._run_id = context.run.run_id if context.run else None

    def client(
        self,
        role: str,
        *,
        stage: str,
        dataset: str | None = None,
        settings: Role | None = None,
        log: Callable[[str], None] | None = None,
        ask_endpoints: bool = True,
    ) -> LLMClient:
        """The client of a role for the asset ``stage``; use it as a context manager.

        A name that is no role, such as an outside model's, needs ``settings`` of its endpoint and
        model. ``log`` takes progress lines. An estimate never asks endpoints what they can do.

        Raises:
            LLMError: No such role, or the reply store can't be used.
            SettingsError: The settings can't be used.
        """
        own = load_settings(self.home)
        return LLMClient(
            role_name=role,
            role=settings or _role(own, role),
            store=ReplyStore(own.replies),
            home=own.home,
            models=own.models,
            stage=stage,
            dataset=dataset,
            budget=own.budget,
            run=self._run_id,
            reporter=functools.partial(Reporter, log=log),
            say=log,
            ask_endpoints=ask_endpoints,
        )

    def planned(self, dataset: str | None = None) -> Callable[[str, str], LLMClient]:
        """Gives the client of a role for a stage, by which calls are estimated and none is sent."""
        return lambda role, stage: self.client(
            role, stage=stage, dataset=dataset, ask_endpoints=False
        )

    def replies(self) -> pl.DataFrame:
        """One row a stored reply or lost call, in the schema of ``llm_replies``."""
        with ReplyStore(load_settings(self.home).replies) as store, Coordination(store.url):
            # Opening the coordination has counted the calls of killed processes as lost.
            return store.usage_rows()


def _role(settings: Settings, name: str) -> Role:
    if name not in Roles.model_fields:
        raise LLMError(f"no role {name!r}; the roles are {', '.join(Roles.model_fields)}")
    role: Role = getattr(settings.roles, name)
    return role
