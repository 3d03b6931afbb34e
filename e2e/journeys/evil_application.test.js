// One of the applications is evil: its pages, its service worker, its frames and its cookies, on a host beside the good one's.
// Over https in Chromium, all hosts under one domain, so that browsers call them the same site: the worst neighbourhood there is.
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { closeBrowser, flagBrowser, newPerson } from '../support/browser.js';
import { openConsole } from '../support/console.js';
import { prepareDoorward } from '../support/doorward.js';
import { hostileCookies, startEvilApplication } from '../support/evil_application.js';
import { ask } from '../support/http.js';
import { allLogs, freePort, run, stopEverything, temporaryFolder } from '../support/processes.js';
import { fillSignIn, goesOnToProvider } from '../support/steps.js';
import { password } from '../support/stage.js';

const DOMAIN = 'company.example';
const IDENTITY = 'I am the good application. You are ';
let doorward;
let provider;
let good;
let evil;
let sso;
let hub;
let trap;
const people = [];

before(async () => {
  const folder = await temporaryFolder('certificate');
  const tls = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
  await run('openssl', 'openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30',
    '-subj', `/CN=${DOMAIN}`, '-addext', `subjectAltName=DNS:*.${DOMAIN}`, '-keyout', tls.key, '-out', tls.certificate]);
  const key = new X509Certificate(await readFile(tls.certificate)).publicKey.export({ type: 'spki', format: 'der' });
  // A service worker wants a certificate that the browser believes, not one that it was told to overlook.
  flagBrowser(`--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`, `--host-resolver-rules=MAP *.${DOMAIN} 127.0.0.1`);

  good = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!DOCTYPE html><title>Good</title><body>${IDENTITY}${request.headers['remote-user'] || 'nobody'}.`);
  });
  await new Promise((resolve) => good.listen(0, '127.0.0.1', resolve));
  evil = await startEvilApplication();
  provider = await openConsole('oidc-provider');
  const port = await freePort();
  [sso, hub, trap] = ['sso', 'hub', 'trap'].map((host) => `https://${host}.${DOMAIN}:${port}`);
  doorward = await prepareDoorward({
    baseUrl: sso, listen: `127.0.0.1:${port}`, gateListen: `127.0.0.1:${await freePort()}`, allow: [new URL(provider.address).host], tls,
    apps: {
      hub: { host: new URL(hub).host, upstream: `http://127.0.0.1:${good.address().port}` },
      trap: { host: new URL(trap).host, upstream: evil.address },
    },
  });
  for (const name of ['ada', 'mallory']) {
    await doorward.cli(['account', 'create', name, '--email', `${name}@acme.example`, '--password-stdin'], password(name));
  }
  await doorward.cli(['org', 'create', 'acme', '--name', 'Acme', '--admin', 'ada']);
  const redirectUri = `${sso}/organizations/acme/oidc/consume`;
  const { clientId, clientSecret, issuerUrl } = await provider.register(undefined, redirectUri);
  await doorward.cli(['sso', 'set', 'acme', '--issuer-url', issuerUrl, '--client-id', clientId, '--client-secret-stdin'], clientSecret);
  await doorward.cli(['sso', 'enable', 'acme', '--untested']);
  await doorward.serve();
});

after(async () => {
  await Promise.all(people.map((context) => context.close()));
  good?.close();
  evil?.stop();
  await provider?.stop();
  await closeBrowser();
  await stopEverything();
});

/** Runs a test and, when it fails, shows what the programs said. */
function played(name, play) {
  test(name, { timeout: 120_000 }, async () => {
    try {
      await play();
    } catch (error) {
      error.message += `\n${allLogs().slice(-6000)}`;
      throw error;
    }
  });
}

/** A browser profile of `name`, signed in by password alone, at our own host. */
async function comes(name) {
  const context = await newPerson();
  people.push(context);
  const page = await context.newPage();
  await page.goto(`${sso}/login`);
  await fillSignIn(page, name);
  await page.waitForURL((url) => !url.pathname.endsWith('/login'));
  return page;
}

/** From wherever the gate led her, through the provider and back. */
async function completesSso(page) {
  await goesOnToProvider(page, { console: provider });
  await provider.signIn(page, 'ada@acme.example');
}

/**
 * Ada, the admin, at her worst moment: single sign-on done, at work on the good application, signed in at the evil one too, whose
 * service worker has taken over its whole host. Her page shows the evil application.
 */
async function victim() {
  const page = await comes('ada');
  await page.goto(`${hub}/acme/plans`);
  await completesSso(page);
  await page.getByText(`${IDENTITY}ada`).waitFor();
  await page.goto(`${trap}/acme/prizes`);
  await page.getByText('Win a prize').waitFor();
  await page.evaluate(async () => {
    await navigator.serviceWorker.register('/static/worker.js', { scope: '/' });
    await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller) await new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve));
  });
  return page;
}

const isStillAda = async (page) => {
  await page.goto(`${hub}/acme/plans`);
  assert.match(await page.locator('body').innerText(), new RegExp(`${IDENTITY}ada\\.`));
  await page.goto(`${sso}/organizations/acme/settings/sso`);
  assert.equal(new URL(page.url()).pathname, '/organizations/acme/settings/sso');
};

/** The values that must stay between this browser and its hosts: every cookie of ours, and what she typed. */
async function secretsOf(page) {
  const cookies = (await page.context().cookies()).filter(({ name, domain }) => /doorward/i.test(name) && domain.endsWith(DOMAIN));
  assert.ok(cookies.length >= 4, `cookies of three hosts: ${cookies.map(({ name, domain }) => `${name} of ${domain}`)}`);
  return [...cookies.map(({ value }) => value), password('ada')];
}

function nothingLeaked(secrets) {
  const everything = JSON.stringify(evil.seen);
  for (const secret of secrets) assert.ok(!everything.includes(secret), `the evil application saw ${secret.slice(0, 6)}…`);
  for (const { url } of evil.seen) assert.doesNotMatch(url, /[?&](code|state|ticket)=/);
}

const settings = async () => [await doorward.cli(['sso', 'show', 'acme', '--json']), await doorward.cli(['audit', 'export', 'acme']).then(withoutExports)];
// An export is an event of its own, and signs where it ends.
const withoutExports = (text) => text.split('\n').filter((line) => !/"action":"org\.audit_log\.export"|"checkpoint":/.test(line)).join('\n');

played('v13_v14_its_script_reads_nothing_of_our_pages_and_of_the_other_application', async () => {
  const page = await victim();
  const addresses = ['/', '/settings/account', '/organizations/acme/settings/sso', '/organizations/acme/settings/audit-log', '/login'].map((path) => sso + path);
  addresses.push(`${hub}/acme/plans`, `${hub}/.doorward/start?next=/`, `${sso}/.doorward/handover?host=${new URL(trap).host}&handover=x&next=/`);
  const read = await page.evaluate(async (list) => {
    const got = [];
    for (const address of list) {
      for (const options of [{ credentials: 'include' }, { credentials: 'include', mode: 'no-cors' }, { credentials: 'include', method: 'POST' }]) {
        const answer = await fetch(address, options).catch(() => undefined);
        const text = await answer?.text().catch(() => '');
        if (text || (answer && answer.type !== 'opaque')) got.push(`${address} ${JSON.stringify(options)}: ${answer.type} ${text}`);
      }
    }
    return got;
  }, addresses);
  assert.deepEqual(read, []);
  nothingLeaked(await secretsOf(page));
});

played('v15_our_pages_are_in_no_frame_and_a_window_that_it_opens_is_out_of_its_reach', async () => {
  const page = await victim();
  for (const tag of ['iframe', 'object', 'embed']) {
    await page.evaluate(
      ([name, address]) =>
        new Promise((resolve) => {
          const frame = document.createElement(name);
          frame[name === 'object' ? 'data' : 'src'] = address;
          for (const event of ['load', 'error']) frame.addEventListener(event, resolve);
          document.body.append(frame);
        }),
      [tag, `${sso}/organizations/acme/settings/sso`],
    );
  }
  for (const frame of page.frames()) assert.doesNotMatch(await frame.content().catch(() => ''), /Redirection URI|Client secret/);

  const [opened] = await Promise.all([
    page.context().waitForEvent('page'),
    page.evaluate((address) => {
      window.opened = window.open(address, 'settings');
    }, `${sso}/organizations/acme/settings/sso`),
  ]);
  await opened.getByLabel('Redirection URI').waitFor();
  // Cross-Origin-Opener-Policy: neither knows of the other any more.
  assert.equal(await opened.evaluate(() => window.opener), null);
  assert.equal(await page.evaluate(() => window.opened.closed), true);
  assert.equal(await page.evaluate(() => window.opened.length), 0);
});

played('rule_10_nothing_that_it_posts_changes_anything', async () => {
  const page = await victim();
  const before = await settings();
  const forms = [
    ['/organizations/acme/settings/sso/disable', {}],
    ['/organizations/acme/settings/sso/enable', { enforcement: 'optional', revision: '1' }],
    ['/organizations/acme/settings/sso/oidc', { client_id: 'evil', client_secret: 'evil', issuer_url: evil.address }],
    ['/organizations/acme/settings/members', { account: 'mallory', role: 'admin' }],
    ['/settings/account/password', { password: 'chosen by evil' }],
    ['/login', { username: 'mallory', password: password('mallory') }],
    ['/logout', {}],
  ];
  await page.evaluate(
    async ([origin, list]) => {
      for (const [path, fields] of list) {
        const body = new URLSearchParams(fields);
        await fetch(origin + path, { method: 'POST', credentials: 'include', mode: 'no-cors', body }).catch(() => {});
        await fetch(origin + path, { method: 'POST', credentials: 'include', body: JSON.stringify(fields), headers: { 'Content-Type': 'application/json' } }).catch(() => {});
        navigator.sendBeacon(origin + path, body);
      }
    },
    [sso, forms],
  );
  for (const [path, fields] of forms) {
    for (const encoding of ['application/x-www-form-urlencoded', 'text/plain']) {
      const [answer] = await Promise.all([
        page.waitForResponse((response) => response.url() === sso + path && response.request().isNavigationRequest()),
        page.waitForURL(sso + path),
        page.evaluate(
          ([action, list, enctype]) => {
            const form = Object.assign(document.createElement('form'), { method: 'post', action, enctype });
            for (const [name, value] of Object.entries(list)) form.append(Object.assign(document.createElement('input'), { name, value }));
            document.body.append(form);
            form.submit();
          },
          [sso + path, fields, encoding],
        ),
      ]);
      assert.equal(answer.status(), 403, `${path} as ${encoding}`);
      await page.goto(`${trap}/acme/prizes`);
    }
  }
  assert.deepEqual(await settings(), before);
  await isStillAda(page);
});

played('rule_11_a_ticket_that_its_service_worker_catches_is_worth_nothing_elsewhere', async () => {
  const page = await victim();
  // The hand-over once more, now under the service worker's eyes.
  await page.context().clearCookies({ name: '__Host-doorward-app', domain: new URL(trap).hostname });
  const before = evil.seen.length;
  await page.goto(`${trap}/acme/prizes`);
  await page.getByText('Win a prize').waitFor();
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  const caught = evil.seen.slice(before).filter(({ url, body }) => url === '/static/collect' && body.includes('ticket='));
  // Navigations are told to the worker by their first address; where a browser tells the redirects too, the ticket is spent.
  const tickets = [...JSON.stringify(caught).matchAll(/ticket=([A-Za-z0-9_-]+)/g)].map(([, ticket]) => ticket);
  for (const ticket of tickets) {
    for (const host of [hub, trap]) {
      const answer = await ask(Number(new URL(sso).port), `/.doorward/ticket?ticket=${ticket}`, {
        tls: true, headers: { Host: new URL(host).host, Accept: 'text/html', 'Sec-Fetch-Mode': 'navigate' },
      });
      assert.equal(answer.status, 400, host);
      assert.equal(answer.headers['set-cookie'], undefined);
    }
  }
  nothingLeaked(await secretsOf(page));
});

played('rule_11_a_ticket_of_somebody_else_or_for_another_host_signs_nobody_in', async () => {
  const page = await victim();
  // The attacker stops before his own ticket is used, and has the victim's browser use it.
  const mallory = await comes('mallory');
  const nonces = new Map();
  const send = async (address) => {
    const { host, origin, port, pathname, search } = new URL(address);
    const cookies = (await mallory.context().cookies(origin)).map(({ name, value }) => `${name}=${value}`);
    const headers = { Host: host, Accept: 'text/html', 'Sec-Fetch-Mode': 'navigate', Cookie: [...cookies, ...(nonces.get(host) ?? [])].join('; ') };
    const answer = await ask(Number(port), pathname + search, { tls: true, headers });
    if (answer.headers['set-cookie']) nonces.set(host, answer.headers['set-cookie'].map((line) => line.split(';')[0]));
    return new URL(answer.headers.location, address).href;
  };
  const ticket = await send(await send(`${hub}/.doorward/start?next=/acme/plans`));
  assert.match(ticket, /\/\.doorward\/ticket\?ticket=/);
  await page.evaluate((address) => location.assign(address), ticket);
  await page.waitForURL((url) => url.origin === hub);
  await isStillAda(page);
  const fresh = await (await newPerson()).newPage();
  people.push(fresh.context());
  assert.equal((await fresh.goto(ticket)).status(), 400);
  assert.deepEqual((await fresh.context().cookies()).filter(({ name }) => name === '__Host-doorward-app'), []);
  // The same ticket on the attacker's other host, and a hand-over begun for a nonce that is not this browser's.
  assert.equal((await fresh.goto(ticket.replace(hub, trap))).status(), 400);
  const nonce = new URL(await send(`${hub}/.doorward/start?next=/`)).searchParams.get('handover');
  const stranger = `${sso}/.doorward/handover?host=${new URL(hub).host}&handover=${nonce}&next=/acme/plans`;
  await page.goto(`${trap}/acme/prizes`);
  await page.evaluate((address) => location.assign(address), stranger);
  await page.waitForURL((url) => url.origin === hub);
  await isStillAda(page);
});

played('rule_11_cookies_that_it_tosses_plant_no_session', async () => {
  const mallory = await comes('mallory');
  await mallory.goto(`${hub}/`);
  await mallory.goto(`${hub}/.doorward/start?next=/`);
  const own = Object.fromEntries((await mallory.context().cookies()).map(({ name, domain, value }) => [`${name} ${domain}`, value]));
  const planted = { session: own[`__Host-doorward-session sso.${DOMAIN}`], app: own[`__Host-doorward-app hub.${DOMAIN}`] };
  assert.ok(planted.session && planted.app, Object.keys(own).join());

  const page = await victim();
  const lines = hostileCookies(DOMAIN, planted);
  await page.evaluate((list) => list.forEach((line) => (document.cookie = line.replace('; HttpOnly', ''))), lines);
  evil.cookies.push(...lines);
  try {
    await page.goto(`${trap}/acme/prizes`);
    await page.goto(`${trap}/`);
  } finally {
    evil.cookies.length = 0;
  }
  await isStillAda(page);

  // Somebody who is signed in nowhere is signed in as nobody afterwards.
  const fresh = await (await newPerson()).newPage();
  people.push(fresh.context());
  evil.cookies.push(...lines);
  try {
    await fresh.goto(`${trap}/`);
    await fresh.evaluate((list) => list.forEach((line) => (document.cookie = line.replace('; HttpOnly', ''))), lines);
  } finally {
    evil.cookies.length = 0;
  }
  await fresh.goto(`${hub}/`);
  assert.match(await fresh.locator('body').innerText(), new RegExp(`${IDENTITY}nobody`));
  await fresh.goto(`${sso}/settings/account`);
  assert.equal(new URL(fresh.url()).pathname, '/login');
  // And no cookie of ours was ever in what the application was sent. (One may have our name in its value: that is its own affair.)
  const sent = evil.seen.flatMap(({ headers }) => headers.filter((_, index) => /^cookie$/i.test(headers[index - 1] ?? '')));
  assert.ok(sent.length > 0);
  for (const cookie of sent.flatMap((line) => line.split(/; */))) assert.doesNotMatch(cookie, /^__Host-doorward-/);
});

played('it_never_sees_a_password_though_the_way_begins_and_ends_at_it', async () => {
  const context = await newPerson();
  people.push(context);
  const page = await context.newPage();
  await page.goto(`${trap}/`);
  await page.evaluate(() => location.assign('/acme/prizes?from=here'));
  await page.waitForURL(/\/login/);
  assert.equal(await page.evaluate(() => document.referrer.includes('from=here')), false);
  await fillSignIn(page, 'ada');
  await completesSso(page);
  await page.waitForURL((url) => url.origin === trap && url.pathname === '/acme/prizes');
  const referrers = evil.seen.flatMap(({ headers }) => headers.filter((_, index) => /^referer$/i.test(headers[index - 1] ?? '')));
  for (const referrer of referrers) assert.ok(!referrer.startsWith(sso) || referrer === `${sso}/`, referrer);
  nothingLeaked([...(await context.cookies()).filter(({ name }) => /doorward/.test(name)).map(({ value }) => value), password('ada')]);
});

played('rule_11_signing_out_anywhere_ends_it_on_every_host', async () => {
  for (const host of [hub, trap]) {
    const page = await victim();
    // Where service workers answer, a sign-out must not be caught either: it is a page of ours.
    await page.goto(`${host}/.doorward/sign-out`);
    await page.getByRole('button', { name: /sign out/i }).first().click();
    await page.waitForLoadState();
    for (const application of [hub, trap]) {
      const cookie = (await page.context().cookies(application)).map(({ name, value }) => `${name}=${value}`).join('; ');
      const answer = await ask(Number(new URL(sso).port), '/acme/plans', { tls: true, headers: { Host: new URL(application).host, Accept: 'application/json', Cookie: cookie } });
      assert.equal(answer.status, 401, `${application} after a sign-out at ${host}`);
    }
  }
});

played('nobody_is_led_to_a_host_that_is_no_applications', async () => {
  const page = await victim();
  const port = new URL(sso).port;
  const outside = [`https://evil.example/`, `//evil.example/`, `https://${new URL(hub).hostname}.evil.example/`, `https://other.${DOMAIN}:${port}/`,
    `https://hub.${DOMAIN}:${port}@evil.example/`, `https:/\\evil.example/`, `/\\evil.example`, `javascript:alert(1)`, `https://hub.${DOMAIN}/`, `http://hub.${DOMAIN}:${port}/`, '\t//evil.example'];
  for (const next of outside) {
    for (const path of ['/login?next=', '/organizations/acme/sso?next=', `/.doorward/handover?host=${new URL(hub).host}&handover=AAAA&next=`]) {
      await page.goto(sso + path + encodeURIComponent(next));
      assert.ok([sso, hub].includes(new URL(page.url()).origin), `${path}${next} led to ${page.url()}`);
    }
  }
});
