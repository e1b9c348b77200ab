# The server as an image, for a CPU (the default) or an NVIDIA GPU:
#
#   docker build -t convlens .
#   docker build -t convlens:gpu --target gpu .
#   docker build -t convlens:openvino --build-arg EXTRAS=serve,openvino .         with OpenVINO beside onnxruntime
#
#   docker run -p 127.0.0.1:50051:50051 convlens                                  the bundled model
#   docker run -p 127.0.0.1:50051:50051 -v ./models:/models:ro convlens --models /models
#   docker run -p 127.0.0.1:50051:50051 --gpus all convlens:gpu                   needs the NVIDIA container toolkit
#
# A mirror of the base image and a package index of your own are build arguments; they, and the
# credentials in them, stay out of the final image, which inherits nothing from the build stage.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/convlens/bin/python PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/convlens
WORKDIR /src

# What convlens needs, without convlens: folders and files that pyproject.toml names are empty here,
# so that these layers stay until it changes, however often the source does.
FROM build AS requirements
COPY pyproject.toml ./
RUN mkdir -p analysis cli client export proto server/http2 server/providers && touch LICENSE README.md

FROM requirements AS cpu-requirements
ARG EXTRAS=serve
RUN python -m pip install ".[$EXTRAS]" && python -m pip uninstall --yes convlens

FROM build AS package
COPY . .
RUN python -m pip install --no-deps --no-warn-script-location --root /package .

FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/convlens/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# A volume that is mounted here takes on the folder's owner; without one it is the container's own.
RUN install --directory --owner=10001 --group=10001 /var/cache/convlens
ENV CONVLENS_CACHE_DIR=/var/cache/convlens
USER 10001:10001
# Not urllib: it would ask a proxy that the container's environment names.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys\n\
port = int(os.environ.get('CONVLENS_METRICS_PORT', 9464))\n\
connection = http.client.HTTPConnection('127.0.0.1', port, timeout=2)\n\
connection.request('GET', '/readyz')\n\
sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["convlens", "serve", "--host", "0.0.0.0"]

FROM runtime AS cpu
COPY --from=cpu-requirements /opt/convlens /opt/convlens
COPY --from=package /package /

# CUDA and cuDNN come from PyPI with onnxruntime-gpu, so the slim base serves here too.
FROM requirements AS gpu-requirements
RUN python -m pip install '.[serve-gpu]' && python -m pip uninstall --yes convlens

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-requirements /opt/convlens /opt/convlens
COPY --from=package /package /

# The last stage is what is built where none is asked for. BuildKit builds nothing that it does not need; the
# builder before it takes the GPU's gigabytes along unless told --target cpu.
FROM cpu
