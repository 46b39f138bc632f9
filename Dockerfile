# Images of the roles. Each is a target:
#   gateway  `serve gateway`, without Ray, torch and OpenCV
#   pool     `serve head` and `serve actor` for models on the CPU
#   actor    `serve head` and `serve actor` with the real model, on NVIDIA's GPUs
#
#   docker build --target gateway -t sana-gateway/gateway:0.1.0 .
#
# Packages come at the versions of requirements/images/*.txt, and with the hashes there. Nothing is
# written below / at run time: /tmp and what the chart mounts are enough.

ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
# Of the CUDA that torch was built for; torch brings its libraries, the host its driver.
ARG CUDA_IMAGE=docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04

# -- our own packages ------------------------------------------------------------------------------

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS python

FROM python AS wheels
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/images/build.txt requirements/images/
RUN pip install --require-hashes --no-deps --target /opt/build -r requirements/images/build.txt
COPY LICENSE README.md pyproject.toml ./
COPY gateway gateway
COPY model_actor model_actor
COPY proto proto
COPY scheduler scheduler
COPY sdk_adapters sdk_adapters
RUN PYTHONPATH=/opt/build pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
    ./sdk_adapters/python .

# -- what each image has installed -----------------------------------------------------------------

FROM wheels AS gateway-packages
COPY requirements/images/gateway.txt requirements/images/
RUN python -m venv --without-pip /opt/sana-gateway \
    && pip --python /opt/sana-gateway/bin/python install \
        --require-hashes --no-deps --only-binary :all: -r requirements/images/gateway.txt \
    && pip --python /opt/sana-gateway/bin/python install --no-deps --no-index /wheels/*.whl

FROM wheels AS pool-packages
COPY requirements/images/pool.txt requirements/images/
RUN python -m venv --without-pip /opt/sana-gateway \
    && pip --python /opt/sana-gateway/bin/python install \
        --require-hashes --no-deps --only-binary :all: -r requirements/images/pool.txt \
    && pip --python /opt/sana-gateway/bin/python install --no-deps --no-index /wheels/*.whl

FROM wheels AS actor-packages
ARG ACTOR_LOCK=requirements/images/actor.txt
COPY ${ACTOR_LOCK} /tmp/lock.txt
RUN python -m venv --without-pip /opt/sana-gateway \
    && pip --python /opt/sana-gateway/bin/python install \
        --require-hashes --no-deps --only-binary :all: -r /tmp/lock.txt \
    && pip --python /opt/sana-gateway/bin/python install --no-deps --no-index /wheels/*.whl

# -- the images ------------------------------------------------------------------------------------

FROM python AS role
RUN groupadd --gid 10001 sana \
    && useradd --uid 10001 --gid sana --no-create-home --home-dir /tmp --no-log-init sana
ENV PATH=/opt/sana-gateway/bin:${PATH} HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["sana-gateway"]

FROM role AS gateway
COPY --from=gateway-packages /opt/sana-gateway /opt/sana-gateway
EXPOSE 8080 50051
CMD ["serve", "gateway", "--host", "0.0.0.0"]

FROM role AS pool
COPY --from=pool-packages /opt/sana-gateway /opt/sana-gateway
CMD ["serve", "head"]

# hadolint ignore=DL3006
FROM ${CUDA_IMAGE} AS actor
# Python's own libraries, and a compiler: torch.compile makes kernels at run time.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates gcc libbz2-1.0 libc6-dev libffi8 liblzma5 libreadline8 libsqlite3-0 \
        libssl3 libuuid1 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 sana \
    && useradd --uid 10001 --gid sana --no-create-home --home-dir /tmp --no-log-init sana
COPY --from=python /usr/local /usr/local
COPY --from=actor-packages /opt/sana-gateway /opt/sana-gateway
RUN ldconfig
# The host's driver comes with its encoder and decoder, too.
ENV PATH=/opt/sana-gateway/bin:${PATH} HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["sana-gateway"]
CMD ["serve", "head"]
