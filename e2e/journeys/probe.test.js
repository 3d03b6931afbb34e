// `doorward proxy-config` and `doorward probe` together, over https: each made configuration is all green behind the real
// proxy, and with one line changed the probe is red on the row that says so, with a line to add.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createServer } from 'node:http';
import { Agent, get } from 'node:https';
import { after, before, describe, test } from 'node:test';
import { makeCertificates } from '../support/certificates.js';
import { prepareDoorward } from '../support/doorward.js';
import { BEHIND, OWN, PATTERNS } from '../support/hosts_stage.js';
import { makeProxy, startMade } from '../support/made_proxy.js';
import { freePort, stopEverything } from '../support/processes.js';

const PROXIES = process.env.PROXIES?.split(',') ?? ['nginx', 'traefik', 'caddy', 'envoy', 'haproxy'];
const ROWS = 40;

let port; // where browsers come, one proxy after the other
let echo; // where the application would listen
let doorward;
let certificates;

before(async () => {
  [port, echo] = [await freePort(), await freePort()];
  certificates = await makeCertificates(['localhost', 'hub.localhost', `*.${BEHIND}`]);
  doorward = await prepareDoorward({
    baseUrl: `https://localhost:${port}`,
    listen: `127.0.0.1:${await freePort()}`,
    gateListen: `127.0.0.1:${await freePort()}`,
    allow: [],
    app: { host: `hub.localhost:${port}` },
  });
  await doorward.cli(['account', 'create', 'ada', '--email', 'ada@acme.example', '--full-name', 'Ada Ä', '--password-stdin'], 'a long password of ada\n');
  await doorward.cli(['org', 'create', 'acme', '--name', 'Acme', '--admin', 'ada', '--plan', 'free']);
  await doorward.serve();
});

after(stopEverything);

const drop = (file, text) => ({ file, change: (whole) => whole.replace(new RegExp(`^.*${RegExp.escape?.(text) ?? text.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&')}.*\n`, 'm'), '') });
const put = (file, from, to) => ({ file, change: (whole) => whole.replace(from, to) });

/** One line taken out or changed, and the row that must be red for it. */
const MUTANTS = {
  nginx: [
    ['an identity header is not set', drop('ask.conf', 'proxy_set_header Remote-User'), 'forged-identity'],
    ['the cookie is not set', drop('ask.conf', 'proxy_set_header Cookie'), 'cookies'],
    ['proxy_pass has a URI', put('doorward.conf', 'http://application_hub;', 'http://application_hub/;'), 'path'],
    ['/.doorward/ is not routed', put('host.conf', /^location \/\.doorward\/ \{[^}]*\}\n/m, ''), 'handover'],
    ['Upgrade is not passed', drop('ask.conf', 'proxy_set_header Upgrade'), 'websocket'],
    ['Connection is not passed', drop('ask.conf', 'proxy_set_header Connection'), 'websocket'],
    ['the gate does not hear of upgrades', drop('host.conf', 'proxy_set_header Upgrade'), 'other-upgrades'],
    ['X-Forwarded-Proto is not set', drop('ask.conf', 'proxy_set_header X-Forwarded-Proto'), 'scheme'],
    ['X-Forwarded-For is not set', drop('ask.conf', 'proxy_set_header X-Forwarded-For'), 'forged-forwarded'],
    ['headers with underscores pass', put('doorward.conf', /server \{/g, 'server { underscores_in_headers on;'), 'forged-identity-underscores'],
    ['invalid headers pass', put('doorward.conf', /server \{/g, 'server { ignore_invalid_headers off;'), 'forged-identity-dots'],
    ['a refusal has no page', drop('ask.conf', 'error_page 401 403'), 'private-page'],
    ['Host is not passed', drop('ask.conf', 'proxy_set_header Host'), 'host'],
    ['nobody asks', drop('ask.conf', 'auth_request /_doorward_gate'), 'private-page'],
    ['the gate can be asked from outside', drop('host.conf', 'internal;'), 'gate-listener'],
    ['another location does not ask', put('doorward.conf', /(?=    location \/ \{\n        include)/, '    location /static/ { proxy_pass http://application_hub; }\n'), 'forged-identity'],
    ['the gate does not hear the address', drop('host.conf', 'proxy_set_header X-Original-URL'), 'public-page'],
    ['the gate does not hear the method', drop('host.conf', 'proxy_set_header X-Original-Method'), 'public-page'],
    ['the gate hears another path', put('host.conf', '$doorward_host$request_uri;', '$doorward_host$uri;'), 'browser'],
    ['big answers of the gate do not fit', put('host.conf', /^ *proxy_buffer.*\n/gm, ''), 'big-cookie'],
    ['an override header passes', drop('ask.conf', 'proxy_set_header X-HTTP-Method-Override'), 'forged-overrides'],
    ["Doorward's pages get another host", drop('doorward.conf', 'proxy_set_header Host localhost'), 'pages'],
  ],
  traefik: [
    ['paths are cleaned', drop('traefik.yaml', 'sanitizePath'), 'path-tricks'],
    ['headers with underscores pass', drop('traefik.yaml', 'underscoreHeadersStrategy'), 'forged-identity-underscores'],
    ['the cookie is not set', drop('doorward.yaml', 'authResponseHeaders: '), 'cookies'],
    ['identity headers are not set', drop('doorward.yaml', 'authResponseHeadersRegex'), 'forged-identity'],
    ['override headers pass', put('doorward.yaml', '[forged, doorward]', '[doorward]'), 'forged-overrides'],
    ['nobody asks', put('doorward.yaml', '[forged, doorward]', '[forged]'), 'private-page'],
    ['/.doorward/ is not routed', drop('doorward.yaml', 'handover: '), 'handover'],
    ['the hand-over comes second', put('doorward.yaml', ', priority: 1000', ', priority: 1'), 'handover'],
    ['every upgrade passes', put('doorward.yaml', / && !HeaderRegexp.*\)"/, '"'), 'other-upgrades'],
    ['everybody says where he comes from', put('traefik.yaml', '    http:\n', '    forwardedHeaders: { insecure: true }\n    http:\n'), 'forged-forwarded'],
  ],
  caddy: [
    ['copy_headers lacks one', put('Caddyfile', ' Doorward-Role', ''), 'identity'],
    ['copy_headers lacks the cookie', put('Caddyfile', 'copy_headers Cookie', 'copy_headers'), 'cookies'],
    // From 2.11.4 on Caddy drops names with underscores and dots by itself, and copy_headers the client's own.
    ['methods that override pass', drop('Caddyfile', 'request_header -X-HTTP-*'), 'forged-overrides'],
    ['what other proxies tell passes', drop('Caddyfile', 'request_header -X-Forwarded-*'), 'forged-overrides'],
    ['X-Real-IP passes', drop('Caddyfile', 'request_header -X-Real-IP'), 'forged-forwarded'],
    ['override headers pass', drop('Caddyfile', 'request_header -X-Original-*'), 'forged-overrides'],
    ['Connection takes headers away', drop('Caddyfile', 'request_header Connection Upgrade'), 'identity-connection'],
    ['/.doorward/ is not routed', put('Caddyfile', /\thandle \/\.doorward\/\* \{\n.*\n\t\}\n/, ''), 'handover'],
    ['nobody asks', put('Caddyfile', /\t\tforward_auth [^}]*\}\n/, ''), 'private-page'],
  ],
  envoy: [
    // Headers with underscores: the gate names them too, should Envoy let them pass.
    ['upgrades are not passed', drop('envoy.yaml', 'upgrade_configs'), 'websocket'],
    ['some identity headers are not set', put('envoy.yaml', '{ prefix: remote- }, ', ''), 'identity'],
    ['the cookie is not set', put('envoy.yaml', '{ exact: cookie }, ', ''), 'cookies'],
    ['the gate does not see all headers', drop('envoy.yaml', 'allowed_headers: '), 'forged-overrides'],
    ['Envoy believes the browser', drop('envoy.yaml', 'use_remote_address'), 'forwarded-headers'],
    ['/.doorward/ is asked about', put('envoy.yaml', /^.*match: \{ prefix: \/\.doorward\/ \}\n.*\n.*\n/m, ''), 'handover'],
    ['nobody asks', put('envoy.yaml', /^ *- name: envoy.filters.http.ext_authz\n[^]*?(?=^ *- name: envoy.filters.http.router)/m, ''), 'private-page'],
  ],
  haproxy: [
    ["the browser's headers pass", drop('haproxy.cfg', 'http-request del-header'), 'forged-overrides'],
    ['a question may be too long to put', drop('haproxy.cfg', 'req.fhdr_cnt'), 'many-headers'],
    ['X-Forwarded-Proto is not set', drop('haproxy.cfg', 'set-header X-Forwarded-Proto'), 'private-page'],
    ['nobody asks', drop('haproxy.cfg', 'http-request lua.doorward'), 'private-page'],
    ['an identity header is not set', put('doorward.lua', '"doorward-role", ', ''), 'identity'],
    ['the cookie is not set', put('doorward.lua', '"cookie", ', ''), 'cookies'],
    ['an absolute target is passed on', drop('haproxy.cfg', 'set-uri'), 'path'],
    ['a cookie of Doorward alone is left', drop('doorward.lua', 'req_del_header'), 'cookies'],
    ['/.doorward/ is not routed', put('haproxy.cfg', 'use_backend doorward if sso or handover', 'use_backend doorward if sso'), 'handover'],
  ],
};

for (const proxy of PROXIES) {
  describe(`behind ${proxy}`, () => {
    test(`what proxy-config makes is all green (${proxy})`, async () => {
      const report = await probeThrough(proxy, await made(proxy));
      assert.deepEqual(red(report), {}, JSON.stringify(report.rows.filter(({ outcome }) => outcome === 'failed'), null, 1));
      assert.deepEqual([report.passed, report.skipped], [ROWS, 0]);
    });

    for (const [what, { file, change }, row] of MUTANTS[proxy]) {
      test(`${what}: ${row} is red (${proxy})`, async () => {
        const files = await made(proxy);
        const changed = change(files[file]);
        assert.notEqual(changed, files[file], 'nothing was changed');
        const report = await probeThrough(proxy, { ...files, [file]: changed });
        const wrong = red(report);
        assert.ok(row in wrong, `red are: ${JSON.stringify(wrong)}`);
        assert.ok(wrong[row].next.length > 20, 'no next step');
      });
    }
  });
}

/** Where each organization has a host of its own. */
const HOST_MUTANTS = {
  nginx: [
    ['the application gets the Host of the request', put('ask.conf', /(proxy_set_header Host +)\$doorward_host/, '$1$http_host'), 'host'],
    ['the Host of the request is judged', put('doorward.conf', /(set \$doorward_host ).*;/, '$1$http_host;'), 'host'],
  ],
};

describe('a host for each organization', () => {
  let own;
  let at;
  before(async () => {
    at = await freePort();
    own = await prepareDoorward({
      baseUrl: `https://${OWN}:${at}`,
      listen: `127.0.0.1:${await freePort()}`,
      gateListen: `127.0.0.1:${await freePort()}`,
      allow: [],
      app: { host: `{org}.${BEHIND}:${at}`, organization: PATTERNS },
      beside: doorward,
    });
    await own.serve();
  });
  after(() => own?.stop());

  const files = (proxy) => makeProxy(own, proxy, `http://127.0.0.1:${echo}`, certificates);
  const through = async (proxy, changed, url) => {
    const front = await startMade(proxy, changed, at, OWN);
    try {
      const member = ['--echo', `127.0.0.1:${echo}`, '--as', 'ada', '--organization', 'acme'];
      return JSON.parse(await reported(own, ['probe', url, '--proxy', proxy, '--connect', `127.0.0.1:${at}`, '--ca', certificates.authority, ...member, '--json']));
    } finally {
      await front.stop();
    }
  };
  for (const proxy of PROXIES) {
    test(`what proxy-config makes is all green on an organization's host (${proxy})`, async () => {
      const report = await through(proxy, await files(proxy), `https://{org}.${BEHIND}:${at}`);
      assert.deepEqual(red(report), {}, JSON.stringify(report.rows.filter(({ outcome }) => outcome === 'failed'), null, 1));
      assert.deepEqual([report.passed, report.skipped], [ROWS, 0]);
    });
    for (const [what, { file, change }, row] of HOST_MUTANTS[proxy] ?? []) {
      test(`${what}: ${row} is red on an organization's host (${proxy})`, async () => {
        const made = await files(proxy);
        const changed = change(made[file]);
        assert.notEqual(changed, made[file], 'nothing was changed');
        const wrong = red(await through(proxy, { ...made, [file]: changed }, `https://acme.${BEHIND}:${at}`));
        assert.ok(row in wrong, `red are: ${JSON.stringify(wrong)}`);
        assert.ok(wrong[row].next.length > 20, 'no next step');
      });
    }
  }
});

describe('whatever the proxy', () => {
  test('a session of the probe ends with it, and the audit log names the operator', async () => {
    const before = await sessions();
    await probeThrough('nginx', await made('nginx'));
    assert.deepEqual([before, await sessions()], ['0\n', '0\n']);
    const entries = await doorward.sql("SELECT action, actor_kind FROM audit_event WHERE action LIKE 'account.s%' ORDER BY at DESC, sequence DESC LIMIT 2");
    assert.equal(entries, 'account.session_end|operator\naccount.sign_in|operator\n');
  });

  test('a running application gets nothing that changes it, nor a session, even where nobody asks', async () => {
    const application = await startApplication();
    const { 'ask.conf': ask, ...files } = await made('nginx');
    const front = await startMade('nginx', { ...files, 'ask.conf': MUTANTS.nginx.find(([what]) => what === 'nobody asks')[1].change(ask) }, port);
    try {
      const report = await probe([]);
      assert.equal(report.proxy, 'nginx', 'recognised');
      for (const row of ['private-page', 'browser', 'fetch', 'websocket-stranger', 'path-tricks']) assert.ok(row in red(report), row);
      const skipped = report.rows.filter(({ outcome }) => outcome === 'skipped').map(({ row }) => row);
      for (const row of ['form-post', 'odd-methods', 'forged-identity', 'identity']) assert.ok(skipped.includes(row), row);
      assert.ok(application.requests.length > 10);
      for (const { method, headers } of application.requests) {
        assert.match(method, /^(GET|HEAD|OPTIONS)$/);
        assert.doesNotMatch(headers.cookie ?? '', /doorward/);
      }
      // Nor does a session go out where something else than the probe listens.
      application.requests.length = 0;
      const elsewhere = await probe(['--echo', `127.0.0.1:${await freePort()}`, '--as', 'ada', '--organization', 'acme']);
      assert.ok('arrives' in red(elsewhere));
      assert.equal(elsewhere.rows.find(({ row }) => row === 'identity').saw, 'because nothing arrives at --echo');
      assert.ok(application.requests.every(({ headers }) => !/doorward/.test(headers.cookie ?? '')));
    } finally {
      await front.stop();
      application.server.closeAllConnections();
      await new Promise((resolve) => application.server.close(resolve));
    }
  });

  test("rule_15_where_haproxys_script_breaks_off_nobody_gets_in", async () => {
    const files = await made('haproxy');
    const lua = files['doorward.lua'].replace('local asking =', 'if seen["x-break"] then error("broken") end\n    local asking =');
    assert.notEqual(lua, files['doorward.lua']);
    const application = await startApplication();
    const front = await startMade('haproxy', { ...files, 'doorward.lua': lua }, port);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const asked = (path, headers) => new Promise((resolve, reject) => {
      const options = { host: '127.0.0.1', port, path, agent, servername: 'hub.localhost', headers: { Host: `hub.localhost:${port}`, ...headers }, rejectUnauthorized: false };
      const request = get(options, (answer) => answer.resume().on('end', () => resolve([answer.statusCode, request.reusedSocket]))).on('error', reject);
    });
    try {
      // On one connection: what was said of one request is not said of the next.
      assert.deepEqual(await asked('/', {}), [200, false]);
      assert.deepEqual(await asked('/acme/secret', { 'X-Break': '1' }), [503, true]);
      assert.equal((await asked('/', { 'X-Break': '1' }))[0], 503);
      assert.deepEqual(application.requests.map(({ url }) => url), ['/']);
    } finally {
      agent.destroy();
      await front.stop();
      application.server.closeAllConnections();
      await new Promise((resolve) => application.server.close(resolve));
    }
  });

  test('for people it prints a line for each look, what was seen and the line to add', async () => {
    const files = await made('caddy');
    const front = await startMade('caddy', { Caddyfile: files.Caddyfile.replace(' Doorward-Role', '') }, port);
    try {
      const told = await probe(['--echo', `127.0.0.1:${echo}`, '--as', 'ada', '--organization', 'acme'], false);
      assert.match(told, /^ok {5}private-page: a program without a session gets 401/m);
      assert.match(told, /^wrong {2}identity: .*\n {7}saw: doorward-role arrived as \[\], the gate says "admin"\n {7}next: under forward_auth.*\n +copy_headers Cookie .*Doorward-Role/m);
      assert.match(told, /^caddy: 37 passed, 3 wrong, 0 not looked at$/m);
      assert.doesNotMatch(told, /__Host-doorward-app=[A-Za-z0-9_-]{43}/);
    } finally {
      await front.stop();
    }
  });

  test('whom the gate does not let in, and what is not the application, is told', async () => {
    await doorward.cli(['account', 'create', 'eve', '--email', 'eve@acme.example', '--password-stdin'], 'a long password of eve\n').catch(() => {});
    const fails = async (args, words) => assert.rejects(doorward.cli(['probe', ...args]), (error) => words.test(error.stderr) || assert.fail(error.stderr));
    const hub = `https://hub.localhost:${port}`;
    await fails([hub, '--connect', `127.0.0.1:${port}`, '--echo', `127.0.0.1:${echo}`, '--as', 'eve', '--organization', 'acme'], /gate\.forbidden[^]*doorward org create/);
    await fails([hub, '--connect', `127.0.0.1:${port}`, '--echo', `127.0.0.1:${echo}`, '--as', 'nobody', '--organization', 'acme'], /there is no account "nobody"/);
    await fails([`https://localhost:${port}`], /no \[\[app\]\] has the host/);
    await fails([`http://hub.localhost:${port}`], /is not https/);
    await fails([`${hub}/acme`], /is more than an address/);
    await fails([hub, '--connect', `127.0.0.1:${port}`, '--ca', '/nowhere.pem'], /--ca \/nowhere.pem/);
    await fails([hub, '--connect', `127.0.0.1:${port}`, '--echo', '192.0.2.1:1'], /Stop the application while the probe looks/);
    assert.equal(await sessions(), '0\n');
  });

  // The last: the gate lets none of them ask any more.
  test('a proxy that is not in trusted_proxies is seen, and the next step says so', async () => {
    const [folder, listen] = [doorward.folder, doorward.listen];
    const file = join(folder, `doorward-${listen.replace(':', '-')}.toml`);
    await writeFile(file, (await readFile(file, 'utf8')).replace('trusted_proxies = ["127.0.0.1"]', 'trusted_proxies = ["192.0.2.1"]'));
    await doorward.stop();
    await doorward.serve();
    for (const proxy of PROXIES) {
      const wrong = red(await probeThrough(proxy, await made(proxy)));
      const row = proxy === 'nginx' ? 'public-page' : 'private-page';
      assert.match(wrong[row]?.next ?? JSON.stringify(wrong), /trusted_proxies/, proxy);
      // nginx asks twice: told to come back, a browser would do so for ever.
      assert.match(wrong[row].saw, /403 gate\.untrusted_proxy/, proxy);
    }
  });
});

const sessions = () => doorward.sql('SELECT count(*) FROM browser_session');

/** An application that is not ours to change: it keeps what it is asked. */
async function startApplication() {
  const requests = [];
  const keep = ({ method, url, headers }) => requests.push({ method, url, headers });
  const server = createServer((request, response) => {
    keep(request);
    response.end('the application\n');
  });
  server.on('upgrade', (request, socket) => {
    keep(request);
    socket.destroy();
  });
  await new Promise((resolve) => server.listen(echo, '127.0.0.1', resolve));
  return { requests, server };
}

/** What `proxy-config` prints for this Doorward. */
const made = (proxy) => makeProxy(doorward, proxy, `http://127.0.0.1:${echo}`, certificates);

/** Starts the proxy over these files, probes through it with everything, and gives the report. */
async function probeThrough(proxy, files) {
  const front = await startMade(proxy, files, port);
  try {
    return await probe(['--proxy', proxy, '--echo', `127.0.0.1:${echo}`, '--as', 'ada', '--organization', 'acme']);
  } catch (error) {
    error.message += `\n${front.log()}\n${doorward.log()}`;
    throw error;
  } finally {
    await front.stop();
  }
}

async function probe(args, json = true) {
  const always = ['probe', `https://hub.localhost:${port}`, '--connect', `127.0.0.1:${port}`, '--ca', certificates.authority];
  const told = await reported(doorward, [...always, ...args, ...(json ? ['--json'] : [])]);
  return json ? JSON.parse(told) : told;
}

/** What a probe prints, also where something is wrong. */
const reported = (of, args) =>
  of.cli(args).catch((error) => {
    if (error.code === 1 && error.stdout) return error.stdout;
    throw error;
  });

/** The rows that are wrong, by name. */
const red = ({ rows }) => Object.fromEntries(rows.filter(({ outcome }) => outcome === 'failed').map(({ row, saw, next }) => [row, { saw, next }]));
