# One image for the migration, the worker and an application: the framework as a wheel, and the
# travel agent of examples/ beside it.  For your own project copy your package instead of examples/.

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY saga saga
COPY internals internals
COPY boundary boundary
COPY migrations migrations
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.12-slim
# PYTHONPATH: the `saga` command finds the package in /app as the `dramatiq` command does.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir /wheel/*.whl \
    && useradd --system --uid 10001 --no-create-home saga
WORKDIR /app
COPY examples examples
USER saga
CMD ["dramatiq", "examples.travel.worker"]
