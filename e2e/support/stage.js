// Everything that a journey plays on: Doorward, its database, the application behind a proxy, a provider, people.
// Goes in: which of each. Comes out: addresses, the people with their passwords, the provider's console.
// Never here: clicks on Doorward's pages (steps.js).
import { prepareDoorward, startDemo } from './doorward.js';
import { openConsole } from './console.js';
import { startNginx } from './nginx.js';
import { startPostgres } from './postgres.js';
import { allLogs, freePort, stopEverything } from './processes.js';
import { closeBrowser, newPerson, shoot } from './browser.js';

/** The people of every stage: what they are at Doorward. Their provider knows them by their addresses. */
export const CAST = {
  ada: { email: 'ada@acme.example', roles: { acme: 'admin' } },
  mira: { email: 'mira.holt@acme.example', roles: { acme: 'write', globex: 'read' } },
  alex: { email: 'alex@acme.example', roles: { acme: 'read' } }, // without a mailbox in the directory
  eve: { email: 'eve@acme.example', roles: {} },
  ben: { email: 'ben@globex.example', roles: { globex: 'admin' } },
};
export const password = (name) => `a long password of ${name}`;

/** All eight combinations of the guide. */
export const ALL = ['oidc-provider', 'entra'].flatMap((provider) =>
  ['sqlite', 'postgres'].flatMap((database) => ['builtin', 'nginx'].map((proxy) => ({ provider, database, proxy }))),
);
/** Two that differ in everything. */
export const TWO = [
  { provider: 'oidc-provider', database: 'sqlite', proxy: 'builtin' },
  { provider: 'entra', database: 'postgres', proxy: 'nginx' },
];
export const nameOf = ({ provider, database, proxy }) => `${provider}, ${database}, ${proxy}`;

let cluster; // one PostgreSQL for all the stages of a test file

/** Builds a stage. `roles` are set on top of the cast's. */
export async function openStage({ provider, database, proxy }, { roles = {} } = {}) {
  cluster ??= database === 'postgres' ? startPostgres() : undefined;
  const [port, behind, gatePort] = [await freePort(), await freePort(), await freePort()];
  const [console, hub] = await Promise.all([openConsole(provider), startDemo('hub', ['--doorward-url', `http://localhost:${port}`])]);
  const listen = `127.0.0.1:${proxy === 'nginx' ? behind : port}`;
  const doorward = await prepareDoorward({
    baseUrl: `http://localhost:${port}`,
    listen,
    gateListen: `127.0.0.1:${gatePort}`,
    allow: [new URL(console.address).host],
    app: { host: `hub.localhost:${port}`, upstream: proxy === 'builtin' ? hub.base_url : undefined },
    postgres: database === 'postgres' ? await (await cluster).newDatabase() : undefined,
  });
  await populate(doorward, roles);
  await doorward.serve();
  const front =
    proxy === 'nginx' &&
    (await startNginx({
      port,
      doorward: listen,
      gate: `127.0.0.1:${gatePort}`,
      application: new URL(hub.base_url).host,
      ssoHost: 'localhost',
      applicationHost: 'hub.localhost',
    }));

  const people = [];
  return {
    /** Doorward's own pages. */
    sso: `http://localhost:${port}`,
    /** The application, as browsers reach it. */
    hub: `http://hub.localhost:${port}`,
    port,
    console,
    doorward,
    /** A new browser profile, closed with the stage. */
    async person(options) {
      const context = await newPerson(options);
      people.push(context);
      return context;
    },
    people,
    async close() {
      await Promise.all(people.map((context) => context.close()));
      await Promise.all([doorward.stop(), hub.stop(), console.stop(), front && front.stop()]);
    },
  };
}

/** Defines `journey(stage)` as a test: builds its stage, and on failure shows pictures and logs. */
export function journey(test, name, which, play, options) {
  test(`${name} (${nameOf(which)})`, { timeout: 180_000 }, async () => {
    const stage = await openStage(which, options);
    try {
      await play(stage);
      const problems = stage.people.flatMap((context) => context.problems);
      if (problems.length > 0) throw new Error(`the browser reported problems:\n${problems.join('\n')}`);
    } catch (error) {
      const pages = stage.people.flatMap((context) => context.pages());
      for (const [index, page] of pages.entries()) {
        await shoot(page, `failed-${name}-${nameOf(which)}-${index}`).catch(() => {});
        const text = await page.locator('body').innerText({ timeout: 1000 }).catch(() => '(no page)');
        error.message += `\n--- page ${index}: ${page.url()} ---\n${text.slice(0, 1500)}`;
      }
      error.message += `\n${allLogs()}`;
      throw error;
    } finally {
      await stage.close();
    }
  });
}

/** For `after()`: ends what the tests of a file shared. */
export async function closeAll() {
  await closeBrowser();
  await stopEverything();
}

export async function populate({ cli }, more) {
  for (const [name, { email }] of Object.entries(CAST)) {
    await cli(['account', 'create', name, '--email', email, '--password-stdin'], `${password(name)}\n`);
  }
  await cli(['org', 'create', 'acme', '--name', 'Acme', '--admin', 'ada']);
  await cli(['org', 'create', 'globex', '--name', 'Globex', '--admin', 'ben']);
  for (const [name, { roles }] of Object.entries(CAST)) {
    for (const [organization, role] of Object.entries({ ...roles, ...more[name] })) {
      await cli(['org', 'member', 'set', organization, name, '--role', role]);
    }
  }
  await cli(['resource', 'set', 'acme', 'website', '--public']);
}
