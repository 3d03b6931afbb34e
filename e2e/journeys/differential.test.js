// By chance: requests of every odd kind through each proxy to applications in Node, Python and PHP, which read them as programs in
// their language do. What must hold: whatever organization an application reads is the one that was decided, or nothing arrived.
//   DOORWARD_VARIANTS=100000 node --test journeys/differential.test.js      that many through each proxy (900 by default)
//   DOORWARD_SEED=7 PROXIES=envoy …                                         another seed, some proxies
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exchange, requestBytes } from '../support/exchange.js';
import { HOST, openHouse } from '../support/gate_stage.js';
import { BEHIND, OWN, openHosts } from '../support/hosts_stage.js';
import { start, stopEverything } from '../support/processes.js';
import { PROXIES } from '../support/proxies.js';
import { FORGED, hostVariants, variants } from '../support/variants.js';

const COUNT = Number(process.env.DOORWARD_VARIANTS ?? 900);
const SEED = Number(process.env.DOORWARD_SEED ?? 20261126);
const AT_ONCE = 8;
const ECHO = new URL('../support/echo/', import.meta.url).pathname;
const LANGUAGES = {
  node: () => start('echo in Node', process.execPath, [`${ECHO}echo.mjs`], { ready: { line: /^\{"port": ?(\d+)\}/ } }),
  python: () => start('echo in Python', '/usr/bin/python3', [`${ECHO}echo.py`], { ready: { line: /^\{"port": ?(\d+)\}/ } }),
  php: () => start('echo in PHP', 'php', ['-q', '-S', '127.0.0.1:0', `${ECHO}echo.php`], { env: { PHP_CLI_SERVER_WORKERS: '2' }, ready: { line: /http:\/\/127\.0\.0\.1:(\d+)/ } }),
};

/** Who may what: mira and alex by their roles in each organization; nobody else is in any. */
const ROLES = { mira: { acme: 'write', globex: 'read' } };
const ORGANIZATIONS = ['acme', 'globex'];
const READS = new Set(['GET', 'HEAD', 'OPTIONS']);
const IS_PUBLIC = (organization, resource) => organization === 'acme' && resource === 'website';

let house;
let openHost;
before(async () => {
  house = await openHouse();
  openHost = await openHosts();
});
after(async () => {
  await stopEverything();
  await house?.close();
});

for (const proxy of process.env.PROXIES?.split(',') ?? Object.keys(PROXIES)) {
  describe(`through ${proxy}`, () => {
    for (const [index, language] of Object.keys(LANGUAGES).entries()) {
      test(`an application in ${language} reads the organization that was decided, or 4xx (${proxy})`, { timeout: 3_600_000 }, async (context) => {
        const application = await LANGUAGES[language]();
        const stage = { proxy, ...(await house.open(proxy, Number(application.ready[1]))) };
        try {
          const count = Math.ceil(COUNT / 3);
          const tally = await run(stage, variants(SEED + index, count));
          context.diagnostic(`${proxy}, ${language}: ${JSON.stringify(tally)}`);
          // Of what arrives by chance some must be let in, else nothing was compared.
          assert.ok(tally.arrived > count / 50, `only ${tally.arrived} of ${count} arrived`);
        } finally {
          await stage.close();
          await application.stop();
        }
      });
    }
  });
}

// One language behind each proxy: they read a host alike.
for (const proxy of process.env.PROXIES?.split(',') ?? Object.keys(PROXIES)) {
  const language = Object.keys(LANGUAGES)[Object.keys(PROXIES).indexOf(proxy) % 3];
  test(`an application in ${language} reads the host of the organization that was decided, or 4xx (${proxy})`, { timeout: 3_600_000 }, async (context) => {
    const application = await LANGUAGES[language]();
    const stage = { proxy, ...(await openHost(proxy, Number(application.ready[1]))) };
    try {
      const count = Math.ceil(COUNT / 3);
      const tally = await run(stage, hostVariants(SEED, count), { place: onItsHost, faultsOf: faultsOfHost, faultsOfRefusal: faultsOfRefusalByHost });
      context.diagnostic(`${proxy}, ${language}, by host: ${JSON.stringify(tally)}`);
      assert.ok(tally.arrived > count / 20, `only ${tally.arrived} of ${count} arrived`);
    } finally {
      await stage.close();
      await application.stop();
    }
  });
}

const BY_PATH = { place: inPlace, faultsOf, faultsOfRefusal };

async function run(stage, rows, { place, faultsOf, faultsOfRefusal } = BY_PATH) {
  const tally = { arrived: 0, answered: {} };
  const faults = [];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const row of rows) {
        const placed = place(stage, row);
        const answer = await exchange(stage.port, requestBytes(placed), { tls: placed.certificate }).catch((error) => ({ status: 0, header: () => undefined, error }));
        const seen = answer.header('x-seen') && JSON.parse(Buffer.from(answer.header('x-seen'), 'base64').toString());
        tally.answered[answer.status] = (tally.answered[answer.status] ?? 0) + 1;
        if (seen) tally.arrived += 1;
        for (const fault of seen ? faultsOf(row, seen) : faultsOfRefusal(stage.proxy, answer, stage, `${row.method} ${row.target}`)) {
          if (faults.length < 20) faults.push(`${fault}\n  ${JSON.stringify(placed)}\n  ${answer.status} ${JSON.stringify(seen ?? answer.error?.message)}`.slice(0, 2500));
        }
      }
    }),
  );
  assert.equal(faults.length, 0, `\n${faults.join('\n\n')}`);
  return tally;
}

function inPlace({ port, cookies }, row) {
  const placed = (text) => text.replaceAll('HOST', `${HOST}:${port}`).replaceAll('PORT', port);
  const cookie = cookies[row.as] ? [['Cookie', `theme=dark; doorward-app=${cookies[row.as]}`]] : [];
  return { ...row, target: placed(row.target), headers: [['Host', placed(row.host)], ...row.headers, ...cookie, ['Connection', row.connection]] };
}

/** Refused by Doorward or by the proxy itself; never by accident. */
function* faultsOfRefusal(proxy, { status, error, body }, _stage, asked) {
  // 0: ended without an answer, as servers do with what is not HTTP. 501 and 505: "no such method, no such version" of a proxy.
  if (status === 0 && !error) return;
  if ((status >= 300 && status < 500) || status === 501 || status === 505) return;
  if (proxy === 'caddy' && status === 200 && body === '') return; // that is how Caddy answers for a host without a site
  if (proxy === 'traefik' && status === 200 && asked === 'OPTIONS *' && body === '') return; // Go's own server answers this for everybody
  yield `answered ${status}, neither let in nor refused`;
}

function* faultsOf(row, seen) {
  const person = row.as === 'mira' || row.as === 'alex' || row.as === 'eve' ? row.as : '';
  if (seen.user !== '' && seen.user !== person) yield `the application sees ${seen.user}`;
  if (seen.all.includes(FORGED)) yield 'a forged header arrived';
  if (/doorward-(app|session)/.test(seen.cookie)) yield 'a cookie of ours arrived';
  if (seen.upgrade && !/^websocket$/i.test(seen.upgrade)) yield `asked for ${seen.upgrade}`;
  if (seen.method !== row.method) yield `the method became ${seen.method}`;
  for (const [how, reading] of Object.entries(seen.readings)) {
    const [organization, resource] = reading.toLowerCase().split('/').slice(1);
    if (organization === '' || organization === 'static') continue; // declared public
    // Read without decoding: no organization and no resource has a percent sign in its name, so this finds nothing.
    if (`${organization}${resource}`.includes('%')) continue;
    if (!ORGANIZATIONS.includes(organization)) {
      yield `${how} reads ${organization}, which nobody owns`;
      continue;
    }
    const role = ROLES[person]?.[organization];
    const open = IS_PUBLIC(organization, resource) && READS.has(row.method);
    if (seen.organization.toLowerCase() !== organization && !(open && seen.organization === '')) {
      yield `${how} reads ${organization}, decided was "${seen.organization}"`;
    }
    if (!open && !role) yield `${how}: ${person || 'nobody'} is let into ${organization}`;
    if (!open && role === 'read' && !READS.has(row.method)) yield `${how}: a reader of ${organization} writes`;
    if (seen.organization && seen.role !== (role ?? '')) yield `${how}: the role is ${seen.role}, not ${role}`;
  }
}

// === By host

function onItsHost({ port, cookies }, { hosts, certificate, ...row }) {
  const placed = (text) => text.replaceAll('PORT', port);
  const cookie = cookies[row.as] ? [['Cookie', `theme=dark; __Host-doorward-app=${cookies[row.as]}`]] : [];
  const headers = [...hosts.map((host) => ['Host', host]), ...row.headers].map(([name, value]) => [name, placed(value)]);
  return { ...row, target: placed(row.target), headers: [...headers, ...cookie, ['Connection', 'close']], certificate: `${certificate}.${BEHIND}` };
}

/** As above; a page of Doorward's own is no way in either, and nobody is led to another host than ours and the organizations'. */
function* faultsOfRefusalByHost(proxy, answer, { port }) {
  if (!(answer.status === 200 && answer.header?.('content-security-policy'))) yield* faultsOfRefusal(proxy, answer);
  const location = answer.header?.('location');
  const host = location && new URL(location, `https://${OWN}:${port}`).host;
  if (host && !new RegExp(`^[a-z0-9-]+[.]${BEHIND}:${port}$`).test(host)) yield `led to ${location}`;
}

function* faultsOfHost(row, seen) {
  const organization = seen.organization.toLowerCase();
  // The operator's public paths are told whose they are where a member asks.
  const isPublic = /^\/(static\/.*)?$/.test(seen.raw);
  const isAnybodys = isPublic && organization === '';
  if (!isAnybodys && !ORGANIZATIONS.includes(organization)) yield `decided was "${organization}"`;
  for (const host of seen.hosts.filter((host, index) => host !== '' || index === 0)) {
    const label = new RegExp(`^([a-z0-9-]+)[.]${BEHIND}[.]?(:\\d+)?$`, 'i').exec(host)?.[1].toLowerCase();
    if (!label || label === 'sso' || (!isAnybodys && label !== organization)) yield `the host ${host} arrived, decided was "${organization}"`;
  }
  if (seen.cookie.includes('doorward-')) yield 'a cookie of ours arrived';
  if (isAnybodys) return;
  // The session of one host counts on no other.
  if (seen.user !== 'mira' || row.as !== `mira at ${organization}`) yield `"${seen.user}" is let into ${organization} as ${row.as}`;
  if (seen.role !== ROLES.mira[organization]) yield `the role is ${seen.role}`;
  if (seen.role === 'read' && !READS.has(row.method) && !isPublic) yield `a reader of ${organization} writes`;
}
