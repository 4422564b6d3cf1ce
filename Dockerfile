# Two images from one file:
#
#     docker build --target gateway -t trustscale-gateway .   # serve, jobs; no torch
#     docker build --target worker  -t trustscale-worker  .   # torch with CUDA
#
# Dependencies are locked with hashes in requirements/*.lock (made by requirements/lock.sh). For a
# build that can be repeated to the byte of its base, name the image by digest:
# --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# ── The wheel, built once ────────────────────────────────────────────────────────────────────────
FROM ${PYTHON_IMAGE} AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.lock requirements/
RUN pip install --require-hashes --only-binary :all: -r requirements/build.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
COPY workers workers
COPY client client
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels/gateway . \
 && pip wheel --no-deps --no-build-isolation --wheel-dir /wheels/worker . ./workers

# ── Environments: locked dependencies first, so that a change of code does not fetch them again ──
FROM ${PYTHON_IMAGE} AS gateway-env
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# gateway-extras adds content credentials. The extra `formats` is in no
# image: it is partly under the GPL.
ARG LOCK=gateway
COPY requirements/${LOCK}.lock /tmp/requirements.lock
# A third of what they install never runs in it: test suites, what onnxruntime and openvino have for
# converting models, other devices and programs in C, the parts of scipy and scikit-image that nothing
# here calls, and symbols for debuggers.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils \
 && python -m venv --without-pip /opt/trustscale \
 && pip --python /opt/trustscale/bin/python install \
      --require-hashes --only-binary :all: -r /tmp/requirements.lock \
 && site=$(echo /opt/trustscale/lib/python3*/site-packages) \
 && find "$site/numpy" "$site/scipy" -depth -type d -name tests -exec rm -r {} + \
 && rm -rf "$site"/onnxruntime/capi/libonnxruntime.so.* "$site/onnxruntime/quantization" \
      "$site/onnxruntime/tools" "$site/onnxruntime/transformers" \
 && rm -rf "$site/networkx" "$site/skimage/data" "$site"/openvino/include "$site"/openvino/cmake \
      "$site"/openvino/libs/cache.json "$site"/openvino/libs/libopenvino_intel_[gn]pu_plugin.so \
 && find "$site" -name 'libopenvino_*_frontend.so*' ! -name '*_onnx_*' -delete \
 && for part in cluster datasets differentiate fftpack integrate interpolate io misc odr signal stats; \
    do rm -r "$site/scipy/$part"; done \
 && find "$site" -name '*.so' -not -path '*.libs/*' -exec strip --strip-debug {} +
COPY --from=wheel /wheels /tmp/wheels
# Every module is imported once, so that a build fails that took away too much.
RUN pip --python /opt/trustscale/bin/python install --no-deps --no-index /tmp/wheels/gateway/*.whl \
 && /opt/trustscale/bin/python -c "import importlib, pkgutil, trustscale_server as server; \
      [importlib.import_module(m.name) \
       for m in pkgutil.walk_packages(server.__path__, 'trustscale_server.') \
       if not m.name.endswith('__main__')]; \
      from skimage.metrics import structural_similarity; \
      from skimage.registration import phase_cross_correlation; \
      from trustscale_server.upscalers.embedded.runtime import load_session, runtimes; \
      from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS; \
      ran = [load_session(model.read(), name=name, threads=1) \
             for name, model in SHIPPED_MODELS.items()]; \
      assert {session.provider for session in ran} == {runtimes()[0]}"

FROM ${PYTHON_IMAGE} AS worker-env
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/worker.lock /tmp/requirements.lock
# Where another build of torch comes from, in pip's words; the one for CPUs is a fifth of the size:
# --build-arg TORCH="--index-url https://download.pytorch.org/whl/cpu"
ARG TORCH=
# The version is the one of the lock; only its index is another.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/trustscale \
 && if [ -n "$TORCH" ]; then \
      version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' /tmp/requirements.lock) \
      && pip --python /opt/trustscale/bin/python install --no-deps $TORCH "torch==$version" \
      && awk '/^[^ #]/ { kept = !/^(torch==|triton|nvidia-|cuda-)/ } kept' \
           /tmp/requirements.lock > /tmp/rest.lock \
      && mv /tmp/rest.lock /tmp/requirements.lock; \
    fi \
 && pip --python /opt/trustscale/bin/python install \
      --require-hashes --no-deps --only-binary :all: -r /tmp/requirements.lock
COPY --from=wheel /wheels /tmp/wheels
RUN pip --python /opt/trustscale/bin/python install --no-deps --no-index /tmp/wheels/worker/*.whl

# ── What all images run on ───────────────────────────────────────────────────────────────────────
FROM ${PYTHON_IMAGE} AS base
# Debian removes old versions from its archive, so a pinned one would break the build later.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 trustscale \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/trustscale \
      --shell /usr/sbin/nologin trustscale \
 && install -d -o 10001 -g 0 -m 0770 /var/lib/trustscale
# The root file system may be read-only: byte code was compiled by the install, data and uploads
# go to /var/lib/trustscale and /var/tmp, and everything else that writes finds /tmp. Any user may run
# it who is in group 0, as on OpenShift and with `docker run --user 1000650000`.
ENV PATH=/opt/trustscale/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TMPDIR=/var/tmp \
    TRUSTSCALE_DATA_DIR=/var/lib/trustscale
WORKDIR /var/lib/trustscale
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--", "trustscale"]

ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Trustscale" \
      org.opencontainers.image.description="Image upscaling with a trust mask that carries a guarantee" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

# ── worker: one model on one GPU; weights are mounted, never part of the image ───────────────────
FROM base AS worker
COPY --from=worker-env /opt/trustscale /opt/trustscale
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8001, timeout=4); c.request('GET', '/v2/health/live'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["worker", "--help"]

# ── gateway: the last stage, and so the default target ───────────────────────────────────────────
FROM base AS gateway
COPY --from=gateway-env /opt/trustscale /opt/trustscale
# Data and the admin's key outlive the container, also where nobody names a volume.
VOLUME /var/lib/trustscale
# Clouds name another port.
ENV PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
  CMD ["python", "-c", "import os; from http.client import HTTPConnection as C; c = C('localhost', int(os.environ['PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["serve", "--host", "::"]
