// A private PostgreSQL cluster for tests: own data folder, own port, no durability, gone afterwards.
// Goes in: nothing. Comes out: `databaseUrl()` of a new empty database each time.
// Never here: the machine's own PostgreSQL service. Run as `node support/postgres.js -- COMMAND…` it lends a cluster to
// that command as DOORWARD_TEST_POSTGRES.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, chown, chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { freePort, run, start, stopEverything, temporaryFolder } from './processes.js';

const DEBIAN_VERSIONS = '/usr/lib/postgresql';

/** Starts a cluster on a free port of 127.0.0.1, and on a Unix socket in its folder. */
export async function startPostgres() {
  const bin = binaries();
  const folder = await temporaryFolder('postgres', { forEverybody: true });
  const data = join(folder, 'data');
  await mkdir(data);
  await chmod(data, 0o700);
  // PostgreSQL refuses to run as root: root lends it Debian's user `postgres`, who must be able to enter the folder.
  const who = process.getuid() === 0 ? await accountOf('postgres') : {};
  if (who.uid !== undefined) await Promise.all([data, folder].map((path) => chown(path, who.uid, who.gid)));
  const cwd = folder;

  await run('initdb', join(bin, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync'], { cwd, ...who });
  const port = await freePort();
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: folder,
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    max_connections: 300,
    autovacuum: 'off',
    shared_buffers: '64MB',
  };
  const args = ['-D', data, ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`])];
  const server = await start('postgres', join(bin, 'postgres'), args, { cwd, ...who, ready: { line: /ready to accept connections/ } });

  const psql = (sql, database = 'postgres') =>
    run('psql', join(bin, 'psql'), ['-h', '127.0.0.1', '-p', `${port}`, '-U', 'postgres', '-d', database, '-v', 'ON_ERROR_STOP=1', '-qAtX', '-c', sql]);
  const url = (database) => `postgres://postgres@127.0.0.1:${port}/${database}`;
  let made = 0;
  return {
    url: url('postgres'),
    /** Runs SQL in a database and returns its rows as text. */
    psql,
    /** Makes an empty database. */
    async newDatabase() {
      const name = `doorward_e2e_${(made += 1)}`;
      await psql(`CREATE DATABASE ${name}`);
      return { url: url(name), sql: (text) => psql(text, name) };
    },
    // "Fast" shutdown, for PostgreSQL's SIGTERM waits for its clients.
    stop: () => server.stop({ signal: 'SIGINT' }),
  };
}

async function accountOf(name) {
  const [uid, gid] = await Promise.all(['-u', '-g'].map(async (flag) => Number(await run('id', 'id', [flag, name]))));
  return { uid, gid };
}

function binaries() {
  const versions = existsSync(DEBIAN_VERSIONS) ? readdirSync(DEBIAN_VERSIONS).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((version) => join(DEBIAN_VERSIONS, version, 'bin')).find((bin) => existsSync(join(bin, 'initdb')));
  if (!found) throw new Error('PostgreSQL is not installed: apt-get install postgresql');
  return found;
}

async function lendTo([command, ...args]) {
  const cluster = await startPostgres();
  const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, DOORWARD_TEST_POSTGRES: cluster.url } });
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('exit', (exit) => resolve(exit ?? 1)));
  await cluster.stop();
  await stopEverything();
  process.exitCode = code;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const command = process.argv.slice(process.argv.indexOf('--') + 1);
  await lendTo(command);
}
