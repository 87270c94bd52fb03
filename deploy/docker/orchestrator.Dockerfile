# syntax=docker/dockerfile:1.7
# Dagster's webserver, daemon, code server and run pods: no GPU. docs/kubernetes.md builds it:
#
#   docker build -f deploy/docker/orchestrator.Dockerfile -t REPOSITORY:VERSION \
#     --build-arg PYTHON_BASE=python:3.11.14-slim-bookworm@sha256:… \
#     --build-arg PIP_EXTRA_INDEX_URL=… .
#
# PYTHON_BASE by digest makes the build repeatable; look the digest up where the tag is published.
# PIP_EXTRA_INDEX_URL is the index of torch's CPU builds: the usual torch brings gigabytes of CUDA
# that nothing here uses, and the build refuses it.
ARG PYTHON_BASE=python:3.11.14-slim-bookworm

FROM ${PYTHON_BASE} AS packages
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml uv.lock /locked/
COPY deploy/install.sh /locked/deploy/
RUN python -m venv /venv \
    && /locked/deploy/install.sh /venv --extra cluster --extra s3 --extra tracking \
    && /venv/bin/pip check
RUN /venv/bin/python -c "import sys, torch; sys.exit(torch.version.cuda and 'torch is a CUDA build: set --build-arg PIP_EXTRA_INDEX_URL to the index of its CPU builds')"

FROM ${PYTHON_BASE}
RUN groupadd --gid 10001 opencs \
    && useradd --uid 10001 --gid 10001 --create-home opencs \
    && install -d -o 10001 -g 10001 /opencs /opt/dagster/dagster_home
COPY --from=packages /venv /venv
COPY pyproject.toml definitions.py /app/
COPY opencs_assets /app/opencs_assets
COPY resources /app/resources
COPY dbt_eval /app/dbt_eval
COPY deploy/laptop /app/deploy/laptop
# Compiled once here: the user can't write to /app.
RUN printf '#!/venv/bin/python\nfrom opencs_assets.cli.app import main\nmain()\n' > /venv/bin/opencs \
    && chmod 755 /venv/bin/opencs \
    && /venv/bin/python -m compileall -q /app
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    OPENCS_HOME=/opencs \
    HF_HOME=/opencs/huggingface \
    DBT_SEND_ANONYMOUS_USAGE_STATS=false
WORKDIR /app
USER 10001:10001
# No ENTRYPOINT: Dagster's chart gives each pod its command.
CMD ["opencs", "--help"]
