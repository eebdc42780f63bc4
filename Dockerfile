# One image for every role; docker-compose.yml names them. Whatever calls it gives the subcommand: `worker --role pipeline`.
FROM docker.io/library/python:3.11.14-slim-bookworm AS build
RUN python -m venv /opt/retroscribe
ENV PATH=/opt/retroscribe/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.image.lock ./
RUN pip install --require-hashes -r requirements.image.lock
COPY pyproject.toml README.md ./
COPY config config
COPY tasks tasks
COPY workers workers
# What only builds does not run: the image can't install anything.
RUN pip install --no-deps --no-build-isolation . && pip uninstall --yes setuptools pip

FROM docker.io/library/python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 retroscribe \
    && useradd --uid 10001 --gid retroscribe --home-dir /var/lib/retroscribe --no-create-home --shell /usr/sbin/nologin retroscribe \
    && install --directory --owner retroscribe --group retroscribe --mode 0700 /var/lib/retroscribe
COPY --from=build /opt/retroscribe /opt/retroscribe
# Nothing is written but the home and /tmp, so the root file system may be read-only.
ENV PATH=/opt/retroscribe/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 RETROSCRIBE_HOME=/var/lib/retroscribe
WORKDIR /var/lib/retroscribe
# By number, so that an orchestrator sees that it is not root.
USER 10001:10001
# In exec form: SIGTERM reaches the part itself.
ENTRYPOINT ["retroscribe"]
CMD ["--help"]
