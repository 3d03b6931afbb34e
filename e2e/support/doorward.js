// The doorward binary under test, with a configuration file of its own, and its command line.
// Goes in: addresses, a database, where the application is. Comes out: the running server, `cli()` and `sql()`.
// Never here: what the pages look like. The binary: $DOORWARD_BIN, or the one that `cargo build` just made.
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ask } from './http.js';
import { run, start, temporaryFolder } from './processes.js';

const ROOT = resolve(new URL('../..', import.meta.url).pathname);
export const DOORWARD = resolve(process.env.DOORWARD_BIN ?? join(ROOT, 'target/debug/doorward'));
export const DEMO = resolve(process.env.DOORWARD_DEMO_BIN ?? join(ROOT, 'target/debug/doorward-demo'));

// Only what the tests set: nothing of the developer's own environment may change the outcome.
const ENVIRONMENT = Object.fromEntries(Object.keys(process.env).filter((key) => key.startsWith('DOORWARD_')).map((key) => [key, undefined]));

/**
 * Prepares a Doorward (nothing runs yet, the command line works at once). `postgres`: a database of a private cluster; without
 * one, SQLite. `listen`, `gateListen`: "address:port". `app`: { host, upstream, banner, rules, organization } where the application is
 * reached, whether it has banners, its rules in TOML and its patterns, or `apps`: several, by name. `tls`: { certificate, key }, files, to serve https by itself. `beside`: another one, whose database and key it
 * shares: one more node, under an address of its own.
 */
export async function prepareDoorward({ baseUrl, listen, gateListen, allow, app, apps = { hub: app }, tls, postgres, beside }) {
  const folder = beside?.folder ?? (await temporaryFolder('doorward'));
  const configuration = join(folder, `doorward-${listen.replace(':', '-')}.toml`);
  const database = join(folder, 'doorward.db');
  await writeFile(configuration, toml({ baseUrl, listen, gateListen, allow, apps, tls, database: postgres?.url ?? `sqlite:${database}`, folder }));
  const cli = (args, input = '') => run('doorward', DOORWARD, ['--config', configuration, ...args], { cwd: folder, env: ENVIRONMENT, input });
  if (postgres) await cli(['migrate']);

  /** Runs SQL, for what only time or an accident would do. Returns the rows as text, columns separated by "|". */
  const sql = (text) => (postgres ? postgres.sql(text) : run('sqlite3', 'sqlite3', ['-bail', '-cmd', '.timeout 5000', database, text]));
  let server;
  return {
    folder,
    listen,
    /** `doorward ARGS…` with `input` as its standard input; returns what it printed. */
    cli,
    sql,
    /** Runs SQL and tells the server, as every writer does, that what it remembers may be wrong: it forgets within 500 ms. */
    async sqlChange(text) {
      await sql(`${text}; UPDATE change_counter SET n = n + 1;
        INSERT INTO change (n, kind, item, at) SELECT n, 'account', account.id, 0 FROM change_counter, account;
        INSERT INTO change (n, kind, item, at) SELECT n, 'organization', organization.id, 0 FROM change_counter, organization`);
    },
    /** Starts serving. */
    async serve() {
      const ready = { probe: async () => (await ask(Number(listen.split(':').pop()), '/readyz', { tls })).status === 200 };
      server = await start('doorward', DOORWARD, ['--config', configuration, 'serve'], { cwd: folder, env: ENVIRONMENT, ready });
    },
    log: () => server?.log() ?? '',
    stop: () => server?.stop(),
  };
}

/** Starts one of the demo's parts ("entra" or "hub") on a free port; it says where in one line of JSON. */
export async function startDemo(part, args = []) {
  const program = await start(`doorward-demo ${part}`, DEMO, [part, '--listen', '127.0.0.1:0', ...args], { ready: { line: /^\{.*\}$/ } });
  return { ...JSON.parse(program.ready[0]), log: () => program.log(), stop: () => program.stop() };
}

function toml({ baseUrl, listen, gateListen, allow, apps, tls, database, folder }) {
  const text = JSON.stringify; // a JSON string is a TOML string
  return `base_url = ${text(baseUrl)}
listen = ${text(listen)}
database = ${text(database)}
master_key_file = ${text(join(folder, 'master.key'))}
${tls ? `\n[tls]\ncertificate_file = ${text(tls.certificate)}\nkey_file = ${text(tls.key)}\n` : ''}
[outbound]
allow = ${text(allow)}

[gate]
listen = ${text(gateListen)}
trusted_proxies = ["127.0.0.1"]

[log]
level = "debug"
${Object.entries(apps).map(([name, { host, upstream, banner, rules, organization = ['/{org}/{resource}/**', '/{org}/**'] }]) => `
[[app]]
name = ${text(name)}
host = ${text(host)}
${upstream ? `upstream = ${text(upstream)}\n` : ''}${banner ? `banner = ${text(banner)}\n` : ''}${rules ? `rules = ${rules}\n` : ''}organization = ${text(organization)}
public = ["/", "/static/**"]
`).join('')}`;
}
