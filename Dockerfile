# The search page and API of one index, in a container; docs/serve.md says how to run it.
FROM python:3.12-slim

# From there torch comes without the gigabytes that only graphics cards need.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6,<2.14"

WORKDIR /opt/manymatch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# What is installed is this package; it has no version to choose.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[hf,qdrant]" && useradd --system --uid 10001 manymatch

USER 10001
WORKDIR /data
ENV PYTHONUNBUFFERED=1
EXPOSE 8421
HEALTHCHECK --start-period=60s --timeout=6s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8421/ready', timeout=5)"]
ENTRYPOINT ["manymatch"]
# Other machines can reach a container, so reading needs a key too.
CMD ["serve", "/data/photos.index", "--host", "0.0.0.0", "--key-file", "/data/keys.json"]
