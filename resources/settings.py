"""All settings in one typed place: defaults, then ``settings.toml`` in the home, then environment.

An environment variable is ``OPENCS_`` and the setting's path with two underscores between parts:
``OPENCS_ROLES__TAGGER__MODEL=gpt-4o-mini``. Keys never stand in a file: a role names the variable
that holds its key. Nothing is read at import; ``load_settings`` reads afresh at each call.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from resources.errors import MendableError

EMBEDDED = "embedded"
EMBEDDED_MODEL = "smollm2-135m-instruct"
Reading = Literal["generated", "logprobs"]
Structured = Literal["grammar", "json_schema", "tool", "none"]
Profile = Literal["faithful", "corrected"]
NormalizationStep = Literal["rule", "semantic", "association", "frequency"]
Clusterer = Literal["kmeans", "dbscan"]
Aggregate = Literal["bradley_terry", "mean"]
ClusterSize = Literal["candidates", "members"]
LengthUnit = Literal["characters", "words", "tokens"]
Criterion = Literal["helpfulness", "complexity", "quality"]
Tracker = Literal["wandb", "mlflow"]
# Entry points of this group bring settings of launchers; the entry's name is that of their table.
LAUNCHERS = "opencs.launchers"
SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN$|KEY$")
JudgePromptFamily = Literal["own", "fastchat"]


class SettingsError(MendableError):
    """The settings can't be used; the message names file or variable, path and reason."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FurtherEndpoint(_Strict):
    """Another endpoint that serves a role's model; calls go to whichever is healthy and free.

    Its fields mean what they mean in the role. A model or key that is unset is the role's. Replies
    are kept under the role's name of the model, so failing over costs nothing.
    """

    base_url: str
    model: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)


class Role(_Strict):
    """How one of the roles (tagger, scorer, refiner, judge) reaches its model.

    Attributes:
        base_url: ``embedded``, or the base URL of anything that speaks the OpenAI protocol.
        model: Name that the endpoint knows the model by (Azure: the deployment's name).
        api_key_env: Environment variable that holds the key.
        api_version: API version of an Azure OpenAI deployment, such as ``2024-10-21``; the base URL
            is then the resource's (``https://NAME.openai.azure.com``). Unset: OpenAI's protocol.
        endpoints: Further endpoints that serve the same model.
        reading: How a judgement is read: the ``generated`` text, or ``logprobs`` of the labels.
            Unset: ``logprobs`` for the embedded model, ``generated`` for any other.
        temperature: Sampling temperature.
        max_tokens: Most tokens of a reply, where the prompt does not set its own limit. A refined
            text may take twice as many at each further attempt. Unset: 128 for the embedded model,
            1,024 for any other.
        context: Tokens that prompt and reply may take together; a prompt that does not fit is
            refused and counted before it is sent, never cut. Unset: 4096 for the embedded model,
            128,000 for any other.
        concurrency: Most requests in flight at once, at each endpoint. Unset: up to 1,024; the
            number grows while latency holds and shrinks on overload.
        requests_per_minute: Limit of the key, shared by all processes that use it with the same
            reply store. Unset: from the endpoint's headers, or learned from what it refuses.
        tokens_per_minute: Limit of the key in tokens of prompts and replies together, which is
            shared and, unset, learned as that of the requests.
        timeout_s: Deadline of one request, in seconds.
        hedge_after_s: Seconds after which a call without a reply is sent a second time; the first
            reply counts, and both may be paid for. Unset: never.
        structured: How the reply is held to its form: llama.cpp's ``grammar``, OpenAI's
            ``json_schema``, a forced ``tool`` call, or ``none`` (only asked for in words).
            Unset: by what the endpoint can do.
        transport: ``lean`` (aiohttp) or ``sdk`` (the openai package). Unset: ``lean``.
        batch_from: Fewest new calls of a stage that go to the provider's Batch API, which takes
            half the price and up to a day. Unset: none do.
    """

    base_url: str = EMBEDDED
    model: str = EMBEDDED_MODEL
    api_key_env: str = "OPENAI_API_KEY"
    api_version: str | None = None
    endpoints: tuple[FurtherEndpoint, ...] = ()
    reading: Reading | None = None
    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int = Field(128, ge=1)
    context: int = Field(4096, ge=128)
    concurrency: int | None = Field(None, ge=1)
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    timeout_s: float = Field(120.0, gt=0)
    hedge_after_s: float | None = Field(None, gt=0)
    structured: Structured | None = None
    transport: Literal["lean", "sdk"] = "lean"
    batch_from: int | None = Field(None, ge=1)

    @property
    def places(self) -> tuple[FurtherEndpoint, ...]:
        """All endpoints of the role, its own first."""
        own = FurtherEndpoint(
            base_url=self.base_url,
            api_version=self.api_version,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )
        return (own, *self.endpoints)

    @property
    def embedded(self) -> bool:
        """Whether the role is served by the embedded model."""
        return self.base_url == EMBEDDED

    @property
    def resolved_reading(self) -> Reading:
        """The reading, with its default by endpoint."""
        return self.reading or ("logprobs" if self.embedded else "generated")

    @property
    def model_label(self) -> str:
        """The model's name in tables; ``embedded:`` in front for the embedded default."""
        return f"{EMBEDDED}:{self.model}" if self.embedded else self.model

    @model_validator(mode="before")
    @classmethod
    def _room_by_endpoint(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("base_url", EMBEDDED) != EMBEDDED:
            return {"context": 128_000, "max_tokens": 1024, **fields}
        return fields

    @model_validator(mode="after")
    def _known_embedded_model(self) -> "Role":
        if self.embedded and self.model != EMBEDDED_MODEL:
            raise ValueError(
                f"the embedded server serves {EMBEDDED_MODEL!r} only, not {self.model!r}; "
                "set base_url to the endpoint that serves it"
            )
        return self


class Roles(_Strict):
    """The roles, each with its own endpoint, model and sampling."""

    tagger: Role = Role()
    scorer: Role = Role()
    refiner: Role = Role()
    judge: Role = Role()


class BudgetSettings(_Strict):
    """Ceilings for money; a stage stops before the call that could exceed one of them.

    Attributes:
        max_cost_usd: Most dollars that one run may spend on calls. Unset: sensors make no paid
            call, and calls that a person starts are not limited.
        max_cost_usd_per_asset: Most dollars that an asset may spend in one run, by asset name.
        max_cost_usd_per_month: Most dollars in a calendar month (UTC), over all runs and
            processes that share the reply store.
    """

    max_cost_usd: float | None = Field(None, ge=0)
    max_cost_usd_per_asset: Mapping[str, Annotated[float, Field(ge=0)]] = {}
    max_cost_usd_per_month: float | None = Field(None, ge=0)


class LandingSettings(_Strict):
    """What the landing sensor does with a new or changed file.

    Attributes:
        on_new_data: ``ingest`` reads it, ``estimate`` also says what tagging and scoring would
            cost, ``select`` goes on to the subsets. Unset: ``select`` where tagger and scorer
            are embedded or a budget is set, otherwise ``estimate``.
        settle_s: Seconds that a file must be unchanged before it is taken.
    """

    on_new_data: Literal["ingest", "estimate", "select"] | None = None
    settle_s: float = Field(5.0, ge=0)


class Method(_Strict):
    """The method's settings that are not the profile's; ``None`` means the profile's value.

    Attributes:
        normalization: Steps of normalization in their order, each at most once; a step that is left
            out is switched off.
        alpha: Fewest samples that a tag must be in; rarer tags are dropped.
        support: Fewest samples with both of two tags that let one merge into the other.
        confidence: Share of a tag's samples that must carry the other one, to merge into it.
        semantic_distance: Cosine distance up to which two tags say the same; 0.05 is a similarity
            of 0.95.
        semantic_neighbours: Fewest tags within that distance, the tag itself included, from which
            DBSCAN lets a group of equal tags grow.
        clustering: ``kmeans``, or ``dbscan``, which leaves tags without near ones in no cluster.
        clusters: Number of clusters, K; ``auto`` chooses it by the tags.
        cluster_distance: Euclidean distance between unit vectors up to which DBSCAN takes two tags
            for neighbours.
        cluster_neighbours: Fewest neighbours, the tag itself included, from which DBSCAN lets a
            cluster grow.
        k: Samples in a subset.
        quota: Samples taken from one cluster before the next.
        cluster_size: What makes a cluster small, whose turn comes first: its ``candidates``, or
            its ``members``.
        aggregate: How comparisons become a score: by ``bradley_terry``, or as the ``mean`` of the
            scorer's own scores.
        comparisons: Most calls for a dataset's contrastive scores. They are made in rounds, among
            the samples about which a cluster's quota decides. Unset, like ``comparisons_usd``: each
            candidate is compared with two others.
        comparisons_usd: Most dollars for a dataset's contrastive scores.
        single_criteria: Criteria of the scores of single samples: ``helpfulness`` (0 to 5,
            AlpaGasus), ``complexity`` and ``quality`` (0 to 6).
        exclude_contaminated: Keep samples that match a benchmark question out of subsets.
        duplicate_similarity: Jaccard similarity of word 5-grams from which samples are
            near-duplicates.
        seed: Seed of k-means, pairing order and sampling.
        embedder: ``all-minilm-l6-v2`` (embedded), or any sentence-transformers model or folder.
    """

    normalization: tuple[NormalizationStep, ...] | None = None
    alpha: int | None = Field(None, ge=1)
    support: int | None = Field(None, ge=1)
    confidence: float = Field(0.99, gt=0.5, le=1)
    semantic_distance: float = Field(0.05, ge=0, lt=1)
    semantic_neighbours: int = Field(2, ge=1)
    clustering: Clusterer = "kmeans"
    clusters: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    cluster_distance: float = Field(0.5, gt=0, lt=2)
    cluster_neighbours: int = Field(5, ge=1)
    k: int | None = Field(None, ge=1)
    quota: int | None = Field(None, ge=1)
    cluster_size: ClusterSize = "candidates"
    aggregate: Aggregate | None = None
    comparisons: int | None = Field(None, ge=1)
    comparisons_usd: float | None = Field(None, gt=0)
    single_criteria: tuple[Criterion, ...] = Field(("helpfulness",), min_length=1)
    exclude_contaminated: bool = True
    duplicate_similarity: float = Field(0.8, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    embedder: str = "all-minilm-l6-v2"

    @field_validator("normalization", "single_criteria")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("one stands twice; name each at most once")
        return names


class TrainingSettings(_Strict):
    """How trainings are run, whatever their recipes; none of this changes the weights.

    Attributes:
        save_every_steps: Steps between kept training states, from which a stopped training goes
            on. Unset: a tenth of the training's steps, and as many as take a minute.
        keep_states: Number of states that are kept while training; older ones are removed.
        report_to: Trackers that get the curves besides Dagster: ``wandb``, ``mlflow``. They are
            reached by their own environment variables (``WANDB_API_KEY``, ``MLFLOW_TRACKING_URI``).
        gpu_usd_per_hour: Price of one GPU for an hour, for the cost of a checkpoint. Unset: a
            checkpoint has no cost.
        peak_tflops: Peak of one device in TFLOP/s at the precision of training, for MFU. Unset: the
            usual GPUs have a known peak, and others no MFU.
        checkpoints_url: Folder or fsspec URL (``s3://bucket/checkpoints``) of checkpoints and
            training states. Unset: ``<home>/checkpoints``.
        scratch: Folder on the trainer's disk to work in where ``checkpoints_url`` is remote.
            Unset: the system's temporary folder.
        download: Whether base models that are not on this machine are fetched from the Hugging Face
            hub; gated ones need ``HF_TOKEN``.
    """

    save_every_steps: int | None = Field(None, ge=1)
    keep_states: int = Field(2, ge=1)
    report_to: tuple[Tracker, ...] = ()
    gpu_usd_per_hour: float | None = Field(None, ge=0)
    peak_tflops: float | None = Field(None, gt=0)
    checkpoints_url: str | None = None
    scratch: Path | None = None
    download: bool = False


class LauncherSettings(_Strict):
    """Settings that all launchers have; the settings of each launcher are a child of this.

    Attributes:
        kinds: Values of ``launcher.kind`` that mean this launcher; none: the name of its table.
        implementation: The launcher's class, as ``module:name``.
        jobs_url: Folder or fsspec URL of job files and of the reports that come back. Unset:
            ``<home>/jobs``.
        grace_s: Seconds that a job has between SIGTERM and SIGKILL, for keeping its state.
        retries: Further attempts after a crash, unless the job itself is at fault or memory ran
            out. Preemption and eviction do not count.
        poll_s: Seconds between two looks at a job.
        patience_s: Seconds of nothing but errors after which a run gives up, and leaves the job to
            the next run.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    implementation: ClassVar[str] = "resources.launcher.local:LocalProcesses"

    jobs_url: str | None = None
    grace_s: int = Field(120, ge=1)
    retries: int = Field(2, ge=0)
    poll_s: float = Field(3.0, gt=0)
    patience_s: float = Field(600, gt=0)

    def must_fit(self, kind: str) -> None:
        """Raise a ``ValueError`` where the settings are not those of a kind."""


class KubernetesLauncher(LauncherSettings):
    """Settings of the Jobs in which trainings and answerings run on Kubernetes.

    Attributes:
        image: The trainer's image, by digest (``NAME@sha256:…``), because a tag may be moved before
            a training goes on.
        namespace: Namespace of the Jobs.
        kubeconfig: File that says how the API is reached. Unset: ``KUBECONFIG``, else the API is
            reached as from inside a pod.
        context: Context of the kubeconfig. Unset: its current one.
        service_account: Account of the pods; it needs no rights, and its token is not mounted.
        home_claim: Volume claim that is the home, mounted at its path.
        claims: Further volume claims, by the path that each is mounted at.
        env: Environment variables of the pods that are no secrets.
        env_secrets: Secrets whose keys become environment variables of the pods.
        image_pull_secrets: Secrets to pull the image with.
        gpus: GPUs of a pod, each with a process of its own; with 0 a pod trains on its CPUs.
        gpu_resource: What the cluster calls a GPU.
        nodes: Pods of a training with ``kubernetes_multinode``.
        cpu: CPUs that a pod asks for.
        memory: Memory that a pod asks for, and its limit.
        shm: Size of ``/dev/shm``, which NCCL and data loaders need; counts as memory.
        node_selector: Labels that the pods' nodes must have.
        tolerations: Taints that the pods bear, besides the usual one of GPU nodes.
        spot: Bear the taints of spot nodes, too.
        priority_class: Priority class of the pods.
        user: User and group that the pods run as.
        schedule_within_s: Longest that a pod may wait for a node.
        start_within_s: Longest from its node to its start, most of which is pulling the image.
        deadline_s: Longest that a Job may take, with all its attempts.
        keep_s: Seconds that a failed Job stays there to be looked at.
    """

    kinds = ("kubernetes", "kubernetes_multinode")
    implementation = "resources.launcher.kubernetes.launcher:KubernetesJobs"

    image: str = Field(pattern=r"^[^@\s]+@sha256:[0-9a-f]{64}$")
    namespace: str = "opencs"
    kubeconfig: Path | None = None
    context: str | None = None
    service_account: str = "opencs-training"
    home_claim: str
    claims: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    env_secrets: tuple[str, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    gpus: int = Field(1, ge=0, le=16)
    gpu_resource: str = "nvidia.com/gpu"
    nodes: int = Field(1, ge=1)
    cpu: str = "8"
    memory: str = "64Gi"
    shm: str = "16Gi"
    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Mapping[str, str | int], ...] = ()
    spot: bool = False
    priority_class: str | None = None
    user: int = Field(10001, ge=1)
    schedule_within_s: float = Field(1800, gt=0)
    start_within_s: float = Field(1800, gt=0)
    deadline_s: int = Field(172_800, ge=1)
    keep_s: int = Field(86_400, ge=60)

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, variables: Mapping[str, str]) -> Mapping[str, str]:
        for name in variables:
            if SECRET_NAME.search(name.upper()):
                raise ValueError(
                    f"{name} looks like a secret, which would stand in each Job for all to read; "
                    "put it into a Secret, and name that in env_secrets"
                )
        return variables

    def must_fit(self, kind: str) -> None:
        """Raise a ``ValueError`` where the number of nodes is not one that the kind has."""
        if kind == "kubernetes_multinode" and self.nodes == 1:
            raise ValueError("kind 'kubernetes_multinode' needs nodes of 2 or more")
        if kind == "kubernetes" and self.nodes > 1:
            raise ValueError("for nodes of 2 or more set kind = 'kubernetes_multinode'")


class Launcher(_Strict):
    """Where trainings and answerings run.

    Each launcher but the local one has a field, which is the table of its settings.

    Attributes:
        kind: ``local`` runs a process here, ``kubernetes`` a Job of one pod, and
            ``kubernetes_multinode`` a Job of several pods for a training, one on each node, and of
            one pod for an answering.
        processes: Processes of a training here, one for each device. Unset: one for each visible
            GPU.
        kubernetes: Settings of the Jobs, which both kinds of Kubernetes need.
    """

    kind: str = "local"
    processes: int | None = Field(None, ge=1)
    kubernetes: KubernetesLauncher | None = None

    @classmethod
    def tables(cls) -> dict[str, str]:
        """Name of the settings' table, by each kind that has one."""
        return {
            kind: name
            for name, field in cls.model_fields.items()
            for settings in get_args(field.annotation)
            if isinstance(settings, type) and issubclass(settings, LauncherSettings)
            for kind in settings.kinds or (name,)
        }

    @model_validator(mode="after")
    def _described(self) -> "Launcher":
        self.own.must_fit(self.kind)
        return self

    @property
    def own(self) -> LauncherSettings:
        """Settings of the launcher that the kind names."""
        if self.kind == "local":
            return LauncherSettings(grace_s=60)
        table = self.tables().get(self.kind)
        if table is None:
            kinds = ", ".join(["local", *self.tables()])
            raise ValueError(f"launcher.kind is {self.kind!r}, but must be one of {kinds}")
        own: LauncherSettings | None = getattr(self, table)
        if own is None:
            raise ValueError(f"kind {self.kind!r} needs the table [launcher.{table}]")
        return own


class Judging(_Strict):
    """How answers are judged.

    Attributes:
        pair: What the judge is asked about two models' answers: two ``scores`` from 1 to 10, a
            ``choice`` of A, B or a tie for each turn (FastChat), a ``preference`` read from the
            probability of a label (AlpacaEval), or a protocol that another package adds. Unset:
            ``scores`` where the judge's text is read, ``preference`` where its token probabilities
            are.
        prompts: ``own`` prompts, or those of ``fastchat``'s file ``judge_prompts.jsonl`` in the
            home or its ``benchmarks/mt_bench``, for single answers and for ``choice``. Unset:
            FastChat's, where the file is there, the judge's text is read, and no question has more
            than the two turns that they are made for.
        stop_early: Whether a matchup's questions are left out once its winner is clear.
        stop_level: Confidence of the interval that must exclude 50 %; it holds however often the
            interval is looked at.
        batch: Questions between two looks at the interval.
    """

    pair: str | None = None
    prompts: JudgePromptFamily | None = None
    stop_early: bool = False
    stop_level: float = Field(0.95, gt=0.5, lt=1)
    batch: int = Field(20, ge=1)


class Settings(BaseSettings):
    """Every setting of the platform.

    Attributes:
        home: Folder that everything lives under.
        lake_url: Folder or fsspec URL of the tables. Unset: ``<home>/lake``.
        replies_url: SQLAlchemy URL of the store of models' replies, for instance
            ``postgresql+psycopg://user@host/opencs``. Unset: ``<home>/llm/replies.sqlite``.
        models_dir: Folder of the embedded models, which homes may share. Unset: ``<home>/models``.
        dagster_home: Folder with the ``dagster.yaml`` of an instance that others run, as on a
            cluster. Unset: ``<home>/dagster``, where a configuration is made if there is none.
        profile: ``corrected``, or ``faithful`` to the published code.
        roles: Settings of each role's endpoint.
        budget: Ceilings for money.
        landing: What happens with new data.
        method: The method's settings.
        judging: How answers are judged.
        training: How trainings are run.
        launcher: Where trainings and answerings run.
        licenses: Licence of each dataset, as a Hugging Face identifier, for the cards of exports.
    """

    model_config = SettingsConfigDict(
        env_prefix="OPENCS_", env_nested_delimiter="__", extra="forbid", frozen=True
    )
    _toml: ClassVar[Path | None] = None

    home: Path = Path(".opencs")
    lake_url: str | None = None
    replies_url: str | None = None
    models_dir: Path | None = None
    dagster_home: Path | None = None
    profile: Profile = "corrected"
    roles: Roles = Roles()
    budget: BudgetSettings = BudgetSettings()
    landing: LandingSettings = LandingSettings()
    method: Method = Method()
    judging: Judging = Judging()
    training: TrainingSettings = TrainingSettings()
    launcher: Launcher = Launcher()
    licenses: Mapping[str, str] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over ``settings.toml`` over defaults; arguments over all."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=cls._toml),
        )

    @property
    def lake(self) -> str:
        """URL or folder of the lake."""
        return self.lake_url or str(self.home / "lake")

    @property
    def replies(self) -> str:
        """SQLAlchemy URL of the reply store."""
        return self.replies_url or f"sqlite:///{self.home / 'llm' / 'replies.sqlite'}"

    @property
    def models(self) -> Path:
        """Folder of the embedded models."""
        return (self.models_dir or self.home / "models").expanduser().absolute()

    @property
    def checkpoints(self) -> str:
        """URL or folder of the checkpoints."""
        return self.training.checkpoints_url or str(self.home.absolute() / "checkpoints")

    @property
    def jobs(self) -> str:
        """URL or folder of the job files and reports of a launcher's jobs."""
        return self.launcher.own.jobs_url or str(self.home.absolute() / "jobs")

    @property
    def instance(self) -> Path:
        """Folder with the configuration of the Dagster instance."""
        return self.dagster_home or self.home / "dagster"

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def on_new_data(self) -> Literal["ingest", "estimate", "select"]:
        """What the landing sensor does, with its default by price."""
        if self.landing.on_new_data:
            return self.landing.on_new_data
        free = self.roles.tagger.embedded and self.roles.scorer.embedded
        return "select" if free or self.budget.max_cost_usd is not None else "estimate"


def home_folder(home: Path | str | None = None) -> Path:
    """Absolute path of the home: the argument, else ``OPENCS_HOME``, else ``.opencs`` here."""
    return Path(home or os.environ.get("OPENCS_HOME") or ".opencs").expanduser().absolute()


def loaded(group: str) -> Mapping[str, Any]:
    """What installed packages add by their entry points of a group, by name.

    Raises:
        SettingsError: An entry can't be imported; the message names its package.
    """
    added = {}
    for entry in entry_points(group=group):
        try:
            added[entry.name] = entry.load()
        except Exception as error:  # Another package's code may raise anything.
            package = entry.dist.name if entry.dist else "a package"
            raise SettingsError(
                f"{package} adds {entry.name!r} to {group} ({entry.value}), which can't be loaded: "
                f"{type(error).__name__}: {error}. Mend or uninstall that package"
            ) from error
    return added


@cache
def launcher_class() -> type[Launcher]:
    """``Launcher`` with a table for each launcher that an installed package brings."""
    tables: Any = {name: (table | None, None) for name, table in loaded(LAUNCHERS).items()}
    return create_model("Launcher", __base__=Launcher, **tables) if tables else Launcher


def load_settings(home: Path | str | None = None, **overrides: Any) -> Settings:
    """Read the settings of a home, which is that of ``home_folder`` where it is unset.

    Overrides win over environment and file.

    Raises:
        SettingsError: An unknown or invalid setting; the message names each with its path.
    """
    folder = home_folder(home)
    toml = folder / "settings.toml"
    launcher = launcher_class()
    attributes: dict[str, Any] = {"_toml": toml, "__module__": Settings.__module__}
    if launcher is not Launcher:
        attributes |= {"__annotations__": {"launcher": launcher}, "launcher": launcher()}
    settings_class = type("Settings", (Settings,), attributes)
    try:
        return settings_class(home=folder, **overrides)  # type: ignore[no-any-return]
    except ValidationError as error:
        lines = [
            f"  {': '.join(filter(None, ('.'.join(map(str, item['loc'])), item['msg'])))}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(
            f"settings are not usable (from {toml} and OPENCS_* variables):\n" + "\n".join(lines)
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{toml} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{toml} can't be read: {error.strerror}") from None
