# Limner in a container: built in one stage, run in another that holds no compiler, no pip and no cache.
# The same image is the web process, a worker and `limner migrate`. The models are inside; only /data is written to. See
# docs/deploy.md.
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
# Where pip looks, if not where it looks by itself: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python -m venv /opt/limner
# Libraries first: they change seldom, so their layer is kept.
COPY requirements-cluster.lock requirements-build.lock ./
RUN /opt/limner/bin/python -m pip install --quiet --require-hashes -r requirements-cluster.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --quiet --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY src src
RUN /opt/build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/limner/bin/python -m pip install --quiet --no-deps --no-index /tmp/wheel/*.whl
ENV LIMNER_MODELS_DIR=/opt/limner/models
RUN /opt/limner/bin/limner models fetch
# What only an installation needs; what is left is compiled, so that a read-only container starts as quickly.
COPY scripts/healthcheck.py /opt/limner/bin/
RUN /opt/limner/bin/python -m pip uninstall --quiet --yes setuptools pip \
    && python -m compileall -q -j 0 /opt/limner/lib

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="Limner" \
      org.opencontainers.image.description="Self-hosted face imaging: send a photo, get the faces marked" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="https://github.com/limner/limner/tree/main/docs"
COPY --from=build /opt/limner /opt/limner
# Group 0 may write to the volume: so it also works for whoever picks a user of their own with --user.
RUN mkdir /data && chown 10001:0 /data && chmod 2770 /data
ENV PATH=/opt/limner/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    LIMNER_HOST=0.0.0.0 \
    LIMNER_DATABASE_URL=sqlite:////data/limner.db \
    LIMNER_BLOBS_URL=/data/blobs \
    LIMNER_MODELS_DIR=/opt/limner/models \
    LIMNER_PAINTERS_DIR=/data/painters \
    LIMNER_DRAIN_S=8
USER 10001:0
WORKDIR /data
VOLUME /data
EXPOSE 8282
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "/opt/limner/bin/healthcheck.py"]
ENTRYPOINT ["limner"]
CMD ["serve"]
