# A host of the MPI job: the embedding server, the trainers, and mpiexec.
#
#     docker build -f infra/docker/trainer.Dockerfile -t persia-trainer:0.1.0 .
#
# torch's wheels bring CUDA's libraries along, so a CUDA image needs no other base, only a CUDA build of torch
# and the host's driver (docker run --gpus all). On Linux x86-64 that is what the registry holds; name another
# index for another CUDA version, or for the CPU build:
#
#     docker build --build-arg TORCH_INDEX_URL=... -f infra/docker/trainer.Dockerfile -t persia-trainer:0.1.0-cuda .
#
# Another base (BASE_IMAGE) must be a Debian or Ubuntu with Python 3.11 and its venv module.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/persia
# The packages first, in a layer of their own: a change of our code does not fetch them again.
COPY Makefile pyproject.toml requirements.txt requirements-dev.txt ./
COPY infra/setup.sh infra/has_java.py infra/requirements-java.txt infra/
COPY persia_core/__init__.py persia_core/errors.py persia_core/exit_codes.py persia_core/
COPY spark_jobs/__init__.py spark_jobs/java.py spark_jobs/
# An index with a build of torch other than the registry's own (the CPU build, say). Empty: the registry's.
ARG TORCH_INDEX_URL=
RUN PIP_EXTRA_INDEX_URL="${TORCH_INDEX_URL}" PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 make .venv/.requirements
COPY . .
RUN PIP_NO_CACHE_DIR=1 make setup

FROM ${BASE_IMAGE}
# openssh-client: with several hosts mpiexec starts its daemons on the others by ssh.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/persia persia
# The same path as in the build stage: the environment's scripts and the editable install name it.
COPY --from=build /opt/persia /opt/persia
ENV PATH=/opt/persia/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PERSIA_PROJECT=/opt/persia \
    PERSIA_HOME=/var/lib/persia
WORKDIR /opt/persia
USER 10001
VOLUME /var/lib/persia
# A job that ends by itself: its exit code is its health.
HEALTHCHECK NONE
# tini passes SIGTERM on to the launcher, which ends every rank.
ENTRYPOINT ["tini", "--"]
CMD ["persia", "train", "--help"]
