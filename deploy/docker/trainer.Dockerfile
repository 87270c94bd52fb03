# syntax=docker/dockerfile:1.7
# Training and answering on GPUs, started by the training launcher as a Job's pods. No dagster: only
# dagster-pipes, through which it reports. docs/kubernetes.md builds it:
#
#   docker build -f deploy/docker/trainer.Dockerfile -t REPOSITORY:VERSION \
#     --build-arg PYTHON_BASE=python:3.11.14-bookworm@sha256:… \
#     --build-arg CUDA_BASE=nvidia/cuda:13.0.1-devel-ubuntu22.04@sha256:… .
#
# Both by digest make the build repeatable; look the digests up where the tags are published.
# CUDA_BASE brings the compiler with which DeepSpeed builds its optimizers (CPU Adam of the offload)
# at first use. Its first two numbers must be those of torch.version.cuda; the build says if not.
ARG PYTHON_BASE=python:3.11.14-bookworm
ARG CUDA_BASE=nvidia/cuda:13.0.1-devel-ubuntu22.04

FROM ${CUDA_BASE} AS cuda
# /usr/local/cuda is a link to the version's folder; the copy below is of what it links to.
RUN cp --recursive --dereference /usr/local/cuda /cuda

FROM ${PYTHON_BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libaio-dev \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 opencs \
    && useradd --uid 10001 --gid 10001 --create-home opencs \
    && install -d -o 10001 -g 10001 /opencs
COPY --from=cuda /cuda /usr/local/cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 CUDA_HOME=/usr/local/cuda
COPY pyproject.toml uv.lock /locked/
COPY deploy/install.sh /locked/deploy/
# Torch brings its CUDA libraries, which stand at exact versions in its metadata.
RUN python -m venv /venv && /locked/deploy/install.sh /venv --only-group trainer \
    && /venv/bin/pip check
RUN /venv/bin/python -c "import sys, torch, pathlib, json; \
built = torch.version.cuda or sys.exit('torch is a CPU build: install it from the usual index'); \
kit = json.loads(pathlib.Path('/usr/local/cuda/version.json').read_text())['cuda']['version']; \
sys.exit(None if kit.split('.')[:2] == built.split('.')[:2] else f'CUDA_BASE has CUDA {kit}, torch was built with {built}: set --build-arg CUDA_BASE=nvidia/cuda:{built}.…-devel-ubuntu22.04')"
COPY opencs_assets /app/opencs_assets
COPY resources /app/resources
RUN /venv/bin/python -m compileall -q /app
ENV PATH=/venv/bin:/usr/local/cuda/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    OPENCS_HOME=/opencs \
    HF_HOME=/opencs/huggingface \
    TOKENIZERS_PARALLELISM=false \
    TORCH_EXTENSIONS_DIR=/tmp/torch-extensions
WORKDIR /app
USER 10001:10001
CMD ["python", "-m", "opencs_assets.checkpoints.train"]
