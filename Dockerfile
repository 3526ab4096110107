# Ortolan's image, for CPUs or for NVIDIA's GPUs. Models are not in it: mount a model repository at /models.
#
#   docker build --tag ortolan:dev .
#   docker build --tag ortolan:dev-gpu --target gpu .
#   docker run --rm --stop-timeout 40 --publish 127.0.0.1:8000:8000 --volume "$PWD/model_repo:/models:ro" ortolan:dev
#
# The final image holds Python, what the server imports and the libraries that those load, and nothing else: no shell,
# no package manager. docs/container.md says what each part weighs.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
# strip, whose version does not show in what it leaves. It stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
# The environment is used at the place that it will have, and lies where the packages' layer is made of.
RUN python -m venv --without-pip /opt/ortolan \
    && mkdir -p /image/packages/opt \
    && mv /opt/ortolan /image/packages/opt/ortolan \
    && ln -s /image/packages/opt/ortolan /opt/ortolan
COPY .ci/image/root /build
WORKDIR /src

FROM build AS own
COPY pyproject.toml README.md LICENSE ./
COPY server ./server
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/ortolan/bin/python install --no-compile --no-deps . \
    && python /build/lay_out.py own /opt/ortolan /image

# Which of pyproject.toml's extras go into the image, beside the one that brings ONNX Runtime.
FROM build AS cpu-packages
ARG EXTRAS=cloud,encryption,oidc,otel
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip sh /build/install.sh "cpu,${EXTRAS}"

FROM build AS gpu-packages
ARG EXTRAS=cloud,encryption,oidc,otel
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip sh /build/install.sh "gpu,${EXTRAS}"

FROM scratch AS image
# make image adds the version and the commit.
LABEL org.opencontainers.image.title="Ortolan" \
      org.opencontainers.image.description="A model server for ONNX models that speaks Triton's protocol over REST and gRPC" \
      org.opencontainers.image.licenses="Apache-2.0" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true" \
      com.amazonaws.sagemaker.capabilities.multi-models="true"

# Only /tmp need be writable. The addresses are the container's own: what is published is the operator's choice.
ENV PATH=/opt/ortolan/bin \
    HOME=/tmp \
    LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORTOLAN_HTTP_ADDRESS=0.0.0.0 \
    ORTOLAN_GRPC_ADDRESS=0.0.0.0

# A number, so that Kubernetes can see for itself that this is not root.
USER 10001:10001
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM

# Asks the server that the environment describes: its port, its TLS.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["ortolan", "health"]

ENTRYPOINT ["ortolan"]
# What: where the platform says that its models are, else /models (docs/hosting.md).
CMD ["serve"]

FROM image AS gpu
COPY --from=gpu-packages /image/system /
COPY --from=gpu-packages /image/packages /
COPY --from=own /image/own /
# What NVIDIA's container toolkit puts in: all GPUs, unless it is told which; CUDA, and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last one is what is built when nothing is said.
FROM image AS cpu
COPY --from=cpu-packages /image/system /
COPY --from=cpu-packages /image/packages /
COPY --from=own /image/own /
