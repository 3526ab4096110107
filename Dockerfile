# The CPU image of Ortolan. Models are not in it: mount a model repository at /models.
#
#   docker build --tag ortolan:dev .
#   docker run --rm --stop-timeout 40 --publish 127.0.0.1:8000:8000 --volume "$PWD/model_repo:/models:ro" ortolan:dev
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
# The virtual environment goes to the next stage as it is, so pip itself stays outside of it.
RUN python -m venv --without-pip /opt/ortolan
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY server ./server
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/ortolan/bin/python install --constraint constraints.txt ".[cpu]"

FROM python:${PYTHON_VERSION}-slim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Ortolan" \
      org.opencontainers.image.description="A model server for ONNX models that speaks Triton's protocol over REST and gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --gid 10001 ortolan \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ortolan
COPY --from=build /opt/ortolan /opt/ortolan
COPY LICENSE /usr/share/doc/ortolan/LICENSE

# Only /tmp need be writable. The addresses are the container's own: what is published is the operator's choice.
ENV PATH=/opt/ortolan/bin:$PATH \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORTOLAN_HTTP_ADDRESS=0.0.0.0 \
    ORTOLAN_GRPC_ADDRESS=0.0.0.0

# A number, so that Kubernetes can see for itself that this is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 8001 8002

# http.client, because urllib would send this request to a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/v2/health/ready'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["ortolan"]
CMD ["serve", "/models"]
