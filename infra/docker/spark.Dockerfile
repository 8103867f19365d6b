# Hashing by spark-submit, with a Java 17 of the distribution. In `master: local[*]` as it stands; the same
# image serves as driver and executor of a cluster.
#
#     docker build -f infra/docker/spark.Dockerfile -t persia-spark:0.1.0 .
#     docker run --rm -v "$PWD/day:/day" persia-spark:0.1.0 spark-submit spark_jobs/hash_features.py \
#         --config configs/movielens_dlrm.yaml --ds 1998-03-01 --input /day/raw.csv.gz --output /day/hashed
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Java is here too, so that make setup finds one and installs no second.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make openjdk-17-jre-headless \
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
# procps: Spark's scripts call ps.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/persia persia
# The same path as in the build stage: the environment's scripts and the editable install name it.
COPY --from=build /opt/persia /opt/persia
ENV PATH=/opt/persia/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYSPARK_PYTHON=/opt/persia/.venv/bin/python \
    PERSIA_PROJECT=/opt/persia \
    PERSIA_HOME=/var/lib/persia
WORKDIR /opt/persia
USER 10001
VOLUME /var/lib/persia
# A job that ends by itself: its exit code is its health.
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["spark-submit", "spark_jobs/hash_features.py", "--help"]
