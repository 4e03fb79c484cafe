# The service alone: no training dependencies, the weights inside, an unprivileged user, nothing to write.
#
#   docker build -t glimpse .
#
#   docker run -p 127.0.0.1:8000:8000 -e GLIMPSE_ALLOW_ANYONE=true glimpse
#
# Without that setting, or keys (GLIMPSE_KEYS_FILE), the container does not start: `-p 8000:8000` would open it to the
# whole network.
#
# The models that OpenVINO has no graph for need PyTorch: docker build --build-arg EXTRA=torch -t glimpse . It then comes
# from its own index of CPU wheels, if that answers: pip's default for Linux carries several GB of CUDA libraries.
# --build-arg PIP_EXTRA_INDEX_URL=... names another index.
#
# The base is pinned to a version. Whoever needs the same bytes forever adds the digest that their registry shows for it:
# FROM python:3.11.14-slim-bookworm@sha256:...

FROM python:3.11.14-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL
ARG EXTRA
WORKDIR /build
RUN python -m venv /opt/glimpse
ENV PATH=/opt/glimpse/bin:$PATH

# the pinned dependencies first: this layer is rebuilt only when the pins change
COPY pyproject.toml constraints.txt deploy/cpu_wheels.py ./
RUN python -c "import sys, tomllib; \
        project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = [project['optional-dependencies'][name] for name in sys.argv[1:]]; \
        print(*project['dependencies'], *sum(extras, []), sep='\n')" ${EXTRA:+"$EXTRA"} > pins.txt \
    && PIP_EXTRA_INDEX_URL="${EXTRA:+$(python cpu_wheels.py)}" \
    pip install --no-cache-dir --disable-pip-version-check -r pins.txt -c constraints.txt

# training/ and evaluation/ are not copied, so their command would have nothing to run
COPY README.md ./
COPY app app
COPY models models
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && rm /opt/glimpse/bin/glimpse-train

FROM python:3.11.14-slim-bookworm
RUN groupadd --system --gid 10001 glimpse \
    && useradd --system --uid 10001 --gid glimpse --no-create-home --shell /usr/sbin/nologin glimpse
# where a volume may be mounted for jobs: it takes over whose folder this is
RUN install --directory --owner=glimpse --group=glimpse --mode=0700 /var/lib/glimpse
COPY --from=build /opt/glimpse /opt/glimpse
# every model, and weights/shared, which several of them need
COPY weights /srv/glimpse/weights
ENV PATH=/opt/glimpse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GLIMPSE_WEIGHTS_FOLDER=/srv/glimpse/weights
WORKDIR /srv/glimpse
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["glimpse", "serve", "--host", "0.0.0.0", "--port", "8000"]
