# Stands in for the public Valkey image: its server, its user, its folder. The client is Debian's of Redis.
ARG BASE
FROM ${BASE}
RUN groupadd --system --gid 999 valkey && useradd --system --uid 999 --gid valkey valkey \
    && install --directory --owner valkey --group valkey /data && ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli
COPY valkey-server /usr/local/bin/
VOLUME /data
WORKDIR /data
CMD ["valkey-server"]
