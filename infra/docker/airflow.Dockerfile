# Airflow with the DAGs and persia_core: one image for API server, scheduler, DAG processor and triggerer.
# The operators run `persia` commands in the scheduler's container, so Java and the C++ side are in it too.
#
#     docker build -f infra/docker/airflow.Dockerfile -t persia-airflow:0.1.0 .
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
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/persia persia
# The same path as in the build stage: the environment's scripts and the editable install name it.
COPY --from=build /opt/persia /opt/persia
ENV PATH=/opt/persia/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PERSIA_PROJECT=/opt/persia \
    PERSIA_HOME=/var/lib/persia \
    AIRFLOW_HOME=/var/lib/persia/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/persia/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    GX_ANALYTICS_ENABLED=false
WORKDIR /opt/persia
USER 10001
VOLUME /var/lib/persia
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=6 \
    CMD ["python", "infra/docker/http_ok.py", "http://127.0.0.1:8080/api/v2/version"]
ENTRYPOINT ["tini", "--"]
CMD ["airflow", "api-server"]
